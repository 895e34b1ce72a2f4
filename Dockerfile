# syntax=docker/dockerfile:1.7
# Two images from one file: `pipeline` runs the flows, `gpu-worker` speaks. The worker comes last,
# since RunPod's own builder knows no targets and takes the last.

FROM python:3.11.15-slim-bookworm AS base
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 10001 narrator
WORKDIR /app


FROM base AS pipeline
COPY pyproject.toml constraints.txt ./
# Dependencies apart from the code, so that a change of code does not install them again.
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
# The weights before all that changes more often, each share a layer of its own: registries refuse
# layers over 10 GB, and the published model is one file of 11.5 GB. The four steps share one
# download by the cache mount; joined into one step, as a linter may advise, they would be one layer.
RUN pip install huggingface_hub==2.4.0
COPY gpu_worker/__init__.py gpu_worker/
COPY gpu_worker/checkpoints/ gpu_worker/checkpoints/
# Needed only while models.toml names no revision; without either, the build stops and says so.
ARG MODEL_REVISION
ARG CODEC_REVISION
# A mirror of the hub, where the hub itself is out of reach.
ARG HF_ENDPOINT
RUN --mount=type=cache,target=/hub python -m gpu_worker.checkpoints.fetch --cache /hub --models /models --part 1/4
# hadolint ignore=DL3059
RUN --mount=type=cache,target=/hub python -m gpu_worker.checkpoints.fetch --cache /hub --models /models --part 2/4
# hadolint ignore=DL3059
RUN --mount=type=cache,target=/hub python -m gpu_worker.checkpoints.fetch --cache /hub --models /models --part 3/4
# hadolint ignore=DL3059
RUN --mount=type=cache,target=/hub python -m gpu_worker.checkpoints.fetch --cache /hub --models /models --part 4/4
COPY constraints.txt gpu_worker/requirements.txt ./
RUN pip install -c constraints.txt -r requirements.txt
COPY narration/__init__.py narration/contract.py narration/errors.py narration/escaping.py narration/
COPY narration/audio/__init__.py narration/audio/containers.py narration/audio/files.py narration/audio/voice_sample.py narration/audio/
COPY narration/fetch/ narration/fetch/
COPY gpu_worker/ gpu_worker/
ENV HF_HUB_OFFLINE=1 \
    RUNPOD_LOG_LEVEL=INFO \
    WORKER_CODEC=/models/codec \
    WORKER_DEVICE=cuda \
    WORKER_MODEL=/models/model
USER 10001
# A health check that loads the model beside the one at work would take its memory. The self-test
# is a command instead: docker run --gpus all IMAGE check
HEALTHCHECK NONE
# Exec form: as process 1 the worker gets the SIGTERM on which it finishes what it took.
ENTRYPOINT ["python", "-m", "gpu_worker"]
