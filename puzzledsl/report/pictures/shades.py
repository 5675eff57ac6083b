"""Kind and shade of a sub-block in the strip: darker for a larger share of the parent's. Shades also differ in grey."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import PARENTS
from puzzledsl.ir.nodes import LayerChoice, Program, Shape

FAINTEST, STRONGEST = 0.18, 0.9
"""Shares of the full colour, for the smallest alternative and for the largest beside the parent's."""


@dataclass(frozen=True)
class WindowScale:
    """A logarithmic scale from the smallest window of a space, in tokens, to `full`, where all of the context is seen."""

    smallest: int
    full: int

    def share(self, window: int | None) -> float:
        """Share of the scale up to a window, above 0; 1 without one. Doubling a window is the same step anywhere."""
        if window is None or window >= self.full:
            return 1.0
        return (math.log2(window / self.smallest) + 1) / (math.log2(self.full / self.smallest) + 1)


def window_scale(program: Program, layers: Sequence[LayerChoice], shape: Shape) -> WindowScale:
    """The scale of a space's windows: full is the parent's window, else the longest scenario, but more than any window."""
    owns = {own.window for own in shape.each}
    pairs = zip(shape.each, layers, strict=False)
    found = {a.attended(own) for own, choice in pairs for a in choice.attention} - {None, *owns}
    windows = sorted(window for window in found if window is not None)
    longest = max((s.prompt + s.output for s in program.scenarios.values()), default=1)
    widest = None if None in owns else max((window for window in owns if window is not None), default=None)
    full = widest or max([longest, *(2 * window for window in windows)])
    smallest = min([full, *windows, *(window for window in owns if window is not None)])
    return WindowScale(smallest, full)


def appearance(alternative: Alternative, shape: Shape, windows: WindowScale) -> tuple[str, float]:
    """Sort of an alternative, and the share of the parent's sub-block it keeps, 0 to 1, as its shade."""
    if alternative.look != "reduced":
        return alternative.look, 0.0 if alternative.look == "noop" else 1.0
    whole = PARENTS[alternative.sub_block].params(shape)
    seen = windows.share(alternative.attended(shape)) / windows.share(shape.window)
    kept = alternative.kept(shape, whole) * seen
    return "reduced", FAINTEST + (STRONGEST - FAINTEST) * min(kept, 1.0)
