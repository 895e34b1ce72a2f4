"""Order: which step follows which. Each flow is a recipe that fits on one screen."""
