"""The steps of the flows as Prefect tasks: their retries, names and concurrency, and what the UI shows."""
