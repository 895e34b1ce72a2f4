# syntax=docker/dockerfile:1.7
# Two images: `pipeline` runs the flows, `gpu-worker` synthesizes on RunPod. The worker comes last,
# since RunPod's builder has no targets and builds the last stage.

FROM python:3.11.15-slim-bookworm AS base
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 10001 narrator
WORKDIR /app


FROM base AS pipeline
COPY pyproject.toml constraints.txt ./
# Dependencies before the code, so that a change of code does not install them again.
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > dependencies.txt \
    && pip install -c constraints.txt -r dependencies.txt
COPY README.md ./
COPY narration/ narration/
COPY tasks/ tasks/
COPY flows/ flows/
COPY infra/ infra/
COPY gpu_worker/ gpu_worker/
RUN pip install --no-deps .
USER 10001
WORKDIR /home/narrator
CMD ["prefect", "worker", "start", "--type", "process", "--pool", "narration"]


FROM base AS gpu-worker
# The weights come before everything that changes more often, each shard a layer of its own: registries
# refuse layers over 10 GB, and the published model is one file of 11.5 GB. The four steps share one
# download through the cache mount; joined into one step, as linters advise, they would be one layer.
RUN pip install huggingface_hub==2.4.0
# This package alone, so that no other change of code rebuilds the layers of weights.
COPY gpu_worker/checkpoints/ gpu_worker/checkpoints/
# Needed while models.toml pins no revision; without a revision the build stops and says so.
ARG MODEL_REVISION
ARG CODEC_REVISION
# A mirror of the hub, for builds that cannot reach the hub itself.
ARG HF_ENDPOINT
RUN --mount=type=cache,target=/hub python -m gpu_worker.checkpoints.fetch --cache /hub --models /models --part 1/4
# hadolint ignore=DL3059
RUN --mount=type=cache,target=/hub python -m gpu_worker.checkpoints.fetch --cache /hub --models /models --part 2/4
# hadolint ignore=DL3059
RUN --mount=type=cache,target=/hub python -m gpu_worker.checkpoints.fetch --cache /hub --models /models --part 3/4
# hadolint ignore=DL3059
RUN --mount=type=cache,target=/hub python -m gpu_worker.checkpoints.fetch --cache /hub --models /models --part 4/4
# Triton, which comes with PyTorch, builds the launcher of each kernel with a C compiler when it first runs.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY constraints.txt gpu_worker/requirements.txt ./
RUN pip install -c constraints.txt -r requirements.txt
COPY narration/__init__.py narration/contract.py narration/errors.py narration/escaping.py narration/model_ids.py narration/
COPY narration/audio/__init__.py narration/audio/containers.py narration/audio/files.py narration/audio/voice_sample.py narration/audio/
COPY narration/fetch/ narration/fetch/
COPY gpu_worker/ gpu_worker/
ENV HF_HUB_OFFLINE=1 \
    RUNPOD_LOG_LEVEL=INFO \
    WORKER_CODEC=/models/codec \
    WORKER_DEVICE=cuda \
    WORKER_MODEL=/models/model
USER 10001
# A health check would load a second model into the memory of the first. The self-test is a command
# instead: docker run --gpus all IMAGE check
HEALTHCHECK NONE
# Exec form: as process 1 the worker receives SIGTERM, and then finishes its jobs before it exits.
ENTRYPOINT ["python", "-m", "gpu_worker"]
