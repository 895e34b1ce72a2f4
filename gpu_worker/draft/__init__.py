"""The draft engine: espeak-ng on the CPU."""
