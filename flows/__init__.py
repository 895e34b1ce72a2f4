"""The Prefect flows, each the order of its steps, and the pipeline that two of them share."""
