"""Where checkpoints come from: pins, the hub, folders, and shards for the image."""
