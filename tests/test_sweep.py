"""The flow `sweep`: which scripts of the inbox are narrated, left, or rejected with a reason."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterName,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.states import Cancelled
from support.deployments import FLOWS_HERE, FlowWorkspace
from support.stores import BUCKET, new_s3_address, plain_client, server

from flows.narrate import narrate
from flows.sweep import sweep
from narration.errors import ChunksFailed, EndpointRefused, SettingsError
from narration.script import Script, parse_script
from narration.store.s3_conditional_writes import SHA256_METADATA
from tasks.cancelling import cancel_jobs

pytestmark = FLOWS_HERE

SCRIPT = "This script lies in the inbox under the name of {}, and has a single chunk of its own to say."
LONG_AGO = 3_600.0  # s
RUNNING = FlowRunFilterState(name=FlowRunFilterStateName(any_=["Running"]))


def put_into_inbox(
    workspace: FlowWorkspace, name: str, data: bytes | str | None = None, *, age: float = LONG_AGO
) -> str:
    """Put a script into the inbox, last changed `age` seconds ago; its key."""
    content = SCRIPT.format(name) if data is None else data
    path = workspace.folder / "inbox" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    os.utime(path, (time.time() - age,) * 2)
    return f"inbox/{name}"


def reasons(workspace: FlowWorkspace) -> str:
    """The reasons in `rejected/`, one after another."""
    return "\n".join(
        path.read_text() for path in sorted((workspace.folder / "rejected").rglob("*.reason.txt"))
    )


async def test_a_settled_script_is_narrated_once(workspace: FlowWorkspace) -> None:
    """One that has just changed may be incomplete, and waits; one that is narrated stays in the inbox."""
    put_into_inbox(workspace, "settled.md")
    put_into_inbox(workspace, "fresh.md", age=5)
    first = await sweep()
    assert first == {"inbox/settled.md": "narrated as settled-draft"}
    assert workspace.store.manifests.ids() == ["settled-draft"]
    assert (workspace.folder / "inbox" / "settled.md").exists()
    assert await sweep() == {}
    assert set(await sweep(settle_seconds=0)) == {"inbox/fresh.md"}


async def test_a_script_that_any_narration_was_made_from_is_not_narrated_again(
    workspace: FlowWorkspace,
) -> None:
    """The same bytes in the same voice under another id count; an edited script does not."""
    await narrate(narration_id="by-hand", text=SCRIPT.format("same.md"))
    put_into_inbox(workspace, "same.md")
    assert await sweep() == {}
    put_into_inbox(workspace, "same.md", SCRIPT.format("another"))
    assert await sweep() == {"inbox/same.md": "narrated as same-draft"}


async def test_a_bad_script_is_rejected_and_holds_up_no_other(workspace: FlowWorkspace) -> None:
    """Bytes that are no text, no words, a name that is taken: each is in `rejected/` with its reason."""
    put_into_inbox(workspace, "1-binary.md", b"Hello \xff\xfe\x00 there", age=LONG_AGO + 4)
    put_into_inbox(workspace, "2-silent.md", "---\n\n***\n", age=LONG_AGO + 3)
    put_into_inbox(workspace, "good.md", age=LONG_AGO + 2)
    put_into_inbox(workspace, "elsewhere/good.md", SCRIPT.format("the other good"), age=LONG_AGO + 1)
    outcomes = await sweep()
    assert outcomes.pop("inbox/good.md") == "narrated as good-draft"
    assert set(outcomes) == {"inbox/1-binary.md", "inbox/2-silent.md", "inbox/elsewhere/good.md"}
    for outcome in outcomes.values():
        assert outcome.startswith("rejected to rejected/")
    for reason in ("1-binary.md", "2-silent.md", "would be narrated as good-draft, and so is inbox/good.md"):
        assert reason in reasons(workspace)
    assert [info.key for info in workspace.store.scripts.list_inbox()] == ["inbox/good.md"]
    assert await sweep() == {}


async def test_a_transient_failure_is_tried_three_times(workspace: FlowWorkspace) -> None:
    """The script stays for the next sweep and is rejected after the third; others are narrated meanwhile."""
    put_into_inbox(workspace, "stubborn.md", age=LONG_AGO + 1)
    put_into_inbox(workspace, "good.md")
    workspace.endpoint.refused_texts.add("stubborn.md")
    first = await sweep()
    assert first["inbox/good.md"] == "narrated as good-draft"
    assert "stays for the next sweep (1 of 3 tries)" in first["inbox/stubborn.md"]
    assert "(2 of 3 tries)" in (await sweep())["inbox/stubborn.md"]
    assert (await sweep())["inbox/stubborn.md"].startswith("rejected to rejected/")
    assert "failed 3 times, last with:" in reasons(workspace)
    assert await sweep() == {}


async def test_a_narrated_script_has_its_failures_cleared(workspace: FlowWorkspace) -> None:
    """Two failures before it was narrated do not count for its next version."""
    put_into_inbox(workspace, "late.md")
    workspace.endpoint.refused_texts.add("late.md")
    await sweep()
    await sweep()
    workspace.endpoint.refused_texts.clear()
    assert await sweep() == {"inbox/late.md": "narrated as late-draft"}
    assert not list((workspace.folder / "tries").rglob("*.json"))


async def test_a_script_deleted_during_a_sweep_holds_up_no_other(workspace: FlowWorkspace) -> None:
    """It is deleted while the one before it is synthesized; the one after it is narrated."""
    put_into_inbox(workspace, "1-first.md", age=LONG_AGO + 2)
    gone = put_into_inbox(workspace, "2-gone.md", age=LONG_AGO + 1)
    put_into_inbox(workspace, "3-last.md")
    workspace.endpoint.held_texts.add("1-first.md")
    sweeping = asyncio.create_task(sweep())
    while not workspace.endpoint.in_flight("1-first.md"):  # noqa: ASYNC110  # the endpoint lives in another thread
        await asyncio.sleep(0.05)
    (workspace.folder / gone).unlink()
    workspace.endpoint.held_texts.clear()
    outcomes = await sweeping
    assert "holds no script inbox/2-gone.md" in outcomes.pop(gone)
    assert set(outcomes.values()) == {"narrated as 1-first-draft", "narrated as 3-last-draft"}
    assert not (workspace.folder / "rejected").exists()


async def test_a_bug_with_one_script_does_not_stop_the_sweep(
    workspace: FlowWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected error counts as a failed try, and the next script is narrated."""

    def parse(data: bytes, **how: Any) -> Script:
        if b"unlucky" in data:
            raise RecursionError
        return parse_script(data, **how)

    monkeypatch.setattr("narration.planning.script_source.parse_script", parse)
    put_into_inbox(workspace, "1-unlucky.md", age=LONG_AGO + 1)
    put_into_inbox(workspace, "2-good.md")
    outcomes = await sweep()
    assert outcomes["inbox/2-good.md"] == "narrated as 2-good-draft"
    assert "(1 of 3 tries): RecursionError" in outcomes["inbox/1-unlucky.md"]


@pytest.mark.usefixtures("workspace")
async def test_a_script_that_the_store_cannot_read_is_left_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """In S3, with bytes that differ from the digest that their writer recorded."""
    place = new_s3_address(server("moto"), monkeypatch)
    monkeypatch.setenv("NARRATION_STORE", place.url)
    prefix = place.url.partition(f"{BUCKET}/")[2]
    client = plain_client(server("moto"))
    altered, good = f"{prefix}/inbox/1-altered.md", f"{prefix}/inbox/2-good.md"
    client.put_object(Bucket=BUCKET, Key=altered, Body=b"Other words.", Metadata={SHA256_METADATA: "0" * 64})
    client.put_object(Bucket=BUCKET, Key=good, Body=SCRIPT.format("S3").encode())
    outcomes = await sweep(settle_seconds=0)
    assert outcomes["inbox/2-good.md"] == "narrated as 2-good-draft"
    assert outcomes["inbox/1-altered.md"].startswith("left as it is: ")
    assert "SHA-256 differs" in outcomes["inbox/1-altered.md"]
    assert client.head_object(Bucket=BUCKET, Key=altered)["ContentLength"] == 12


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("RUNPOD_API_KEY", "a-wrong-key", EndpointRefused),
        ("NARRATION_LOUDNESS", "loud", SettingsError),
        ("RUNPOD_API_KEY", "", SettingsError),
    ],
)
async def test_wrong_settings_stop_the_sweep_and_reject_no_script(
    workspace: FlowWorkspace, monkeypatch: pytest.MonkeyPatch, name: str, value: str, error: type[Exception]
) -> None:
    """Every script stays in the inbox, without a failed try."""
    put_into_inbox(workspace, "good.md")
    put_into_inbox(workspace, "better.md")
    monkeypatch.setenv(name, value)
    with pytest.raises(error):
        await sweep()
    assert len(workspace.store.scripts.list_inbox()) == 2
    assert not (workspace.folder / "rejected").exists()
    assert not (workspace.folder / "tries").exists()


async def test_cancelling_a_sweep_cancels_the_jobs_of_its_narration(workspace: FlowWorkspace) -> None:
    """The hook cancels the jobs of its subflow, as it must where the process is dead."""
    put_into_inbox(workspace, "held.md")
    workspace.endpoint.held_texts.add("held.md")
    sweeping = asyncio.create_task(sweep())
    while not workspace.endpoint.in_flight("held.md"):  # noqa: ASYNC110  # the endpoint lives in another thread
        await asyncio.sleep(0.05)
    async with get_client() as client:
        runs = await client.read_flow_runs(flow_run_filter=FlowRunFilter(state=RUNNING))
    (run,) = (run for run in runs if run.parent_task_run_id is None)
    await cancel_jobs(flow=sweep, flow_run=run, state=run.state)
    assert workspace.endpoint.in_flight("held.md") == 0
    assert "stays for the next sweep" in (await sweeping)["inbox/held.md"]
    assert not list(workspace.store.jobs.list())


async def test_a_sweep_cancels_the_jobs_of_runs_cancelled_without_a_worker(workspace: FlowWorkspace) -> None:
    """Their worker was gone, so that Prefect called no hook; jobs of other runs go on."""
    for name in ("gone", "going-on"):
        workspace.endpoint.held_texts.add(SCRIPT.format(name))
    runs = [asyncio.create_task(narrate(narration_id=n, text=SCRIPT.format(n))) for n in ("gone", "going-on")]
    while workspace.endpoint.in_flight("going-on") + workspace.endpoint.in_flight("gone") < 2:  # noqa: ASYNC110  # as above
        await asyncio.sleep(0.05)
    async with get_client() as client:
        (gone,) = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=RUNNING, name=FlowRunFilterName(any_=["gone"]))
        )
        await client.set_flow_run_state(gone.id, Cancelled(), force=True)
    assert await sweep() == {}
    assert workspace.endpoint.in_flight("gone") == 0
    assert workspace.endpoint.in_flight("going-on") == 1
    workspace.endpoint.held_texts.clear()
    stopped, finished = await asyncio.gather(*runs, return_exceptions=True)
    assert isinstance(stopped, ChunksFailed)
    assert "cancelled" in str(stopped)
    assert isinstance(finished, dict)
