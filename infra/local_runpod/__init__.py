"""RunPod's queue on this machine: its job API for clients, its worker API, and real worker loops between."""
