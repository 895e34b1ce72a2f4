"""The parts of the narration pipeline that need neither Prefect nor a GPU."""
