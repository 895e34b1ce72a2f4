"""Higgs engine: Higgs Audio V2 on PyTorch, many requests at a time in fixed slots.

A request passes through the modules in this order:

engine            the `Engine`: request in, utterance out; owns the step loop and the codec thread
sequence_builder  request -> sequence: encodes voice and context, checks that the slot has room
prompt            texts and codes -> token ids in the layout the model was trained on
sequence          one request in the engine: prompt, sampling, progress, future
step_loop         thread that schedules, runs, postprocesses and collects
scheduler         which sequence holds which slot
model_runner      prefill and decode steps on the device; the CUDA graph
step_trial        whether a compiled or recorded step draws the plain step's codes
slot_state        what a decode step reads and writes for each slot: position, codes, sampling
sampler           logits -> codes, with noise from each slot's seed
delay_pattern     codes -> stream (codebook k delayed by k steps) and back
decoder           the transformer layers over the cache
attention         attention of a decode step and of a prefill; triton_attention has another kernel
attention_choice  which kernel the decode steps use
codec_thread      thread that encodes voice samples and decodes clips with the codec
device_loss       fails every request when the device fails or hangs, then ends the worker
codec             waveform -> codes, codes -> waveform; codec_graphs and triton_snake speed it up

Loading and caches: load_model, torchaudio_shim; capacity (slots for a card's memory);
prefix_cache (keys and values of shared prompt beginnings), voice_cache (codes of voice samples);
device_queue (values and durations of queued work); failure_text (exceptions for the log).

Shapes: `slots` is the number of requests decoded at once, `steps` counts decode steps, 8 is the
number of codebooks, and a frame is one column of codes, 40 ms.
"""
