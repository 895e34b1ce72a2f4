"""Commands on narrations that are published: `review`."""

from __future__ import annotations

from cyclopts import App, Group

from flows.cli import terminal
from flows.cli.argument_types import NarrationId, StoreOption, examples
from flows.cli.command_settings import command_settings
from flows.cli.process_exit import DONE
from narration.store import open_store

commands = App()
PUBLISHED = Group("Published narrations", sort_key=2)


@commands.command(
    group=PUBLISHED,
    help_epilogue=examples("narrate review intro", "narrate review intro --store s3://bucket/talks"),
)
def review(narration_id: NarrationId, /, *, store: StoreOption = None) -> int:
    """Make the review page again, with new links."""
    from narration.publishing import renew_review  # noqa: PLC0415  # numpy, which `plan` does without

    settings = command_settings(store=store)
    terminal.result(renew_review(open_store(settings.store), narration_id))
    return DONE
