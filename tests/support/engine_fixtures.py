"""Fixtures: tiny checkpoints written once a session, and one engine for all tests of a file.

torch and transformers are imported by the fixtures, so that other test files start without them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.engines import LoadedEngine


@pytest.fixture(scope="session")
def codec_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny codec's checkpoint."""
    from support.tiny_codec import write_tiny_codec

    return write_tiny_codec(tmp_path_factory.mktemp("codec"))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model's checkpoint with small control token ids; the prompt decides when a clip ends."""
    from support.tiny_higgs import SMALL_FIRST_ID, write_tiny_higgs

    return write_tiny_higgs(tmp_path_factory.mktemp("model"), first_id=SMALL_FIRST_ID)


@pytest.fixture(scope="session")
def published_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `model_folder`, with the published control token ids."""
    from support.tiny_higgs import PUBLISHED_FIRST_ID, write_tiny_higgs

    return write_tiny_higgs(tmp_path_factory.mktemp("published"), first_id=PUBLISHED_FIRST_ID)


@pytest.fixture(scope="session")
def endless_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `model_folder`, of a model whose clips end at `max_new_tokens` only."""
    from support.tiny_higgs import SMALL_FIRST_ID, write_tiny_higgs

    return write_tiny_higgs(tmp_path_factory.mktemp("endless"), first_id=SMALL_FIRST_ID, ending=False)


@pytest.fixture(scope="module")
def shared(model_folder: Path, codec_folder: Path) -> Iterator[LoadedEngine]:
    """An engine for the tests of one file that leave it as they found it."""
    from support.engines import load_engine

    loaded = load_engine(model_folder, codec_folder)
    yield loaded
    asyncio.run(loaded.engine.drain())
