"""Checkpoints: the weights of the language model and of the codec, and where they come from.

source       pins, hub revisions and local folders; the model id that they make
fetch        copies both checkpoints into a folder, for the image
shards       splits the model's weights into files of nearly equal size, one image layer each
models.toml  the pinned repositories and revisions
"""
