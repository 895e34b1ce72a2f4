"""The RunPod serverless worker: synthesizes chunks of text on one machine, and deploys alone.

__main__         command line: serve, check, synthesize, model-id, fetch, pin
handler          translates a RunPod job into a request and an utterance into a result
engine_protocol  what every engine offers the handler
open_engine      opens the engine that the settings choose
start_times      how long each part of the start took
settings         the WORKER_* environment variables
voices           fetches, checks and decodes voice samples
check            self-test: load the engine and synthesize one word
synthesize       prompts from the command line to WAV files, without RunPod
pin_checkpoints  writes the hub's newest revisions to checkpoints/models.toml
higgs/           engine: Higgs Audio V2 on PyTorch
draft/           engine: espeak-ng on the CPU
speech_server/   engine: any server with OpenAI's /v1/audio/speech
checkpoints/     where the weights come from: pins, hub, folders, shards for the image
"""
