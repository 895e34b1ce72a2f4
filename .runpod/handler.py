"""The worker for RunPod's Hub, which requires a handler.py in this folder; the image starts the same one."""

from gpu_worker.__main__ import main

main([])
