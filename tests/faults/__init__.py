"""Whole narrations with a fault in their way."""
