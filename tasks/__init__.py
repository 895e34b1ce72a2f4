"""Policy: retries, timeouts, names and concurrency around one step each."""
