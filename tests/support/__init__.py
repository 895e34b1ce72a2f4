"""What several test files share: servers, stores, voices, scripts, tiny checkpoints."""
