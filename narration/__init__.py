"""What is true of a narration without Prefect and without a GPU."""
