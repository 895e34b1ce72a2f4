"""Higgs Audio V2 on PyTorch: prompts, the decoder with its slots, sampling, and the codec."""
