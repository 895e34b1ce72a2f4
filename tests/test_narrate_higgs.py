"""A narration by the Higgs engine on a tiny checkpoint, by the command line and a local endpoint."""

from __future__ import annotations

from pathlib import Path

from support.audio import speak
from support.narrations import CliWorkspace
from support.tiny_codec import write_tiny_codec
from support.tiny_higgs import write_tiny_higgs

from narration.audio.files import encode_flac

TRANSCRIPT = "This is what the sample says, in a voice of its own."
SCRIPT = """# A tiny voice

The first paragraph is spoken by a model that has learnt nothing at all.

The second one is spoken by the same model, beside the first.
"""


def test_the_higgs_engine_narrates_in_a_cloned_voice(cli: CliWorkspace) -> None:
    """With a worker on this machine, `narrate run` needs only its checkpoints and a voice."""
    model = write_tiny_higgs(cli.folder / "model", counting=60)
    codec = write_tiny_codec(cli.folder / "codec")
    sample = cli.folder / "sample.flac"
    sample.write_bytes(encode_flac(speak(TRANSCRIPT), 24_000))
    worker = {
        name: value for name, value in cli.env.items() if not name.startswith(("RUNPOD_", "NARRATION_"))
    }
    higgs = CliWorkspace(
        cli.folder,
        worker
        | {
            "NARRATION_STORE": str(cli.store),
            "NARRATION_ATTEMPTS": "1",
            "WORKER_ENGINE": "higgs",
            "WORKER_MODEL": str(model),
            "WORKER_CODEC": str(codec),
            "WORKER_SLOTS": "2",
            "WORKER_DEVICE": "cpu",
        },
    )
    added = higgs.narrate("voice", "add", "default", "--sample", str(sample), "--transcript", TRANSCRIPT)
    assert added.returncode == 0, added.stderr
    answer = higgs.json("run", str(cli.write("tiny.md", SCRIPT)))
    assert (answer["engine"], answer["narration_id"], answer["failed"]) == ("higgs", "tiny", 0)
    manifest = higgs.manifest("tiny")
    assert manifest["voice"]["transcript"] == TRANSCRIPT
    assert manifest["model"].startswith("higgs-audio-v2/")
    assert {chunk["engine"]["device"] for chunk in manifest["chunks"]} == {"cpu"}
    assert Path(answer["files"]["mp3"]).stat().st_size > 0
    again = higgs.json("run", str(cli.folder / "tiny.md"))
    assert (again["synthesized"], again["cached"]) == (0, answer["chunks"])
