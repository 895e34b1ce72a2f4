"""What a GPU measurement covers: device, size of the model, numbers of slots, tokens and steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Setup:
    """What is measured, and with how much of everything."""

    device: torch.device
    size: str

    @property
    def cuda(self) -> bool:
        """Whether the device is a GPU; else this is a rehearsal on the CPU."""
        return bool(self.device.type == "cuda")

    @property
    def slot_counts(self) -> list[int]:
        """Numbers of slots whose steps are timed."""
        return [1, 8, 32, 64] if self.cuda else [1, 2]

    @property
    def context(self) -> int:
        """Tokens in a slot while its steps are timed."""
        return 1200 if self.size == "full" else 300

    @property
    def slot_length(self) -> int:
        """Tokens that a slot holds."""
        return 2304 if self.size == "full" else 384

    @property
    def steps(self) -> int:
        """Steps timed at once."""
        return 128 if self.cuda else 8
