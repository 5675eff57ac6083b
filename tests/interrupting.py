"""A user who presses Ctrl-C in the middle."""

from __future__ import annotations

from puzzledsl.base.progress import Silent


class Interrupting(Silent):
    """Progress that ends the run when some units are done."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advance(self, amount: int = 1, **figures: float | str) -> None:
        self.left -= amount
        if self.left < 0:
            raise KeyboardInterrupt
