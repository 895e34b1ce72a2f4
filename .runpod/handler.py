"""RunPod's Hub lists only repositories with a handler.py in this folder; the image starts the same worker."""

from gpu_worker.__main__ import main

main([])
