"""Limits of a solve: time, gap and deterministic work."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Effort:
    """Limits of a solve. `deadline`: seconds on the monotonic clock. `gap`: relative gap that is accepted.

    `work` limits CP-SAT's deterministic time, and `labels` the number of labels of label setting. A search that stops at these
    limits gives the same answer on every machine.
    """

    deadline: float
    gap: float = 0.0
    seed: int = 0
    workers: int = 1
    work: float | None = None
    labels: int = 10_000_000

    @classmethod
    def of(cls, time_s: float, gap: float = 0.0, seed: int = 0, workers: int = 1) -> Effort:
        """Return an effort whose deadline is `time_s` seconds from now."""
        return cls(time.monotonic() + time_s, gap, seed, workers)

    def share(self, share: float) -> Effort:
        """Return the effort with a share of the time that is left."""
        return replace(self, deadline=time.monotonic() + share * max(self.left_s, 0.0))

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()
