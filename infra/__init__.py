"""Provisioning, and a local stand-in for RunPod's queue."""
