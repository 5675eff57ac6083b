"""Fit a score to children that are measured whole.

A prediction has to hold where the search that minimises it will look. So half of the children are near optima of the plain sum,
and the other half near optima of the form fitted to the first half. Measured losses are cached like those of single replacements.

Shapes: R replacements, P positions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from puzzledsl.base.progress import Progress
from puzzledsl.ir.nodes import Shape
from puzzledsl.scoring.draw import Places, drawn
from puzzledsl.scoring.draw import Rows as Child
from puzzledsl.scoring.figures_cache import FiguresCache, Name
from puzzledsl.scoring.fit import Form, fitted
from puzzledsl.scoring.replacements import Replacement
from puzzledsl.scoring.scorer import Scorer

WHOLE = -2
"""Layer number under which losses of whole children are cached."""


@dataclass(frozen=True, eq=False)
class Children:
    """Draws whole children, measures them, and fits the form of a score to them."""

    todo: Sequence[Replacement]
    shape: Shape
    scorer: Scorer
    cache: FiguresCache
    progress: Progress

    def fitted(self, count: int, seed: int, kl_RP: Tensor) -> Form:
        """Return single scores that are fitted to `count` children, from the KLs by position that the sweep stored.

        The result is the same bytes for any number of threads.
        """
        kls = kl_RP.numpy().astype(np.float64)
        places = Places.of(self.todo, self.shape)
        self.progress.start("children", count)
        form = Form(kls.mean(axis=1))
        measured: list[tuple[Child, float]] = []
        for wave in (count // 2, count - count // 2):
            known = [rows for rows, _ in measured]
            new = list(drawn(places, form.singles_R, wave, seed + len(measured), known))
            measured += zip(new, self._losses(new), strict=True)
            form = fitted(kls, measured)
        return form

    def _losses(self, children: Sequence[Child]) -> list[float]:
        """Return the KL divergence of each child, from the cache or measured now."""
        names = [self._name(rows) for rows in children]
        new = [n for n, name in enumerate(names) if name not in self.cache.figures]
        self.progress.advance(len(children) - len(new))
        replaced = [[self.todo[row] for row in children[n]] for n in new]
        for number, figures in self.scorer.wholes(replaced):
            self.cache.add(names[new[number]], figures)
            self.progress.advance(score=figures["kl_divergence"])
        return [self.cache.figures[name]["kl_divergence"] for name in names]

    def _name(self, rows: Child) -> Name:
        names = [(r.layer, r.table, r.name) for r in (self.todo[row] for row in rows)]
        return WHOLE, "child", hashlib.sha256(repr(names).encode()).hexdigest()[:24]
