"""The command `narrate`."""
