"""Fit a score's single and pairwise terms to children that are measured whole.

A prediction has to hold where the search that minimises it will look. So half of the children are near optima of the plain sum,
and the other half near optima of the form fitted to the first half. Measured losses are cached like those of single replacements.

Shapes: R replacements, P positions, H hidden.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from puzzledsl.base.progress import Progress
from puzzledsl.ir.nodes import Shape
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.scoring.draw import Floats, Places, drawn
from puzzledsl.scoring.draw import Rows as Child
from puzzledsl.scoring.figures_cache import FiguresCache, Name
from puzzledsl.scoring.fit import Form, fitted
from puzzledsl.scoring.incumbent import Incumbent
from puzzledsl.scoring.measures import Measure
from puzzledsl.scoring.pairwise import covariances
from puzzledsl.scoring.replacements import Replacement
from puzzledsl.scoring.sweep import Rows, final_states
from puzzledsl.scoring.workers import Workers

WHOLE = -2
"""Layer number under which losses of whole children are cached."""


@dataclass(frozen=True, eq=False)
class Children:
    """Draws whole children, measures them, and fits the form of a score to them."""

    todo: Sequence[Replacement]
    shape: Shape
    runner: LayerRunner
    measure: Measure
    incumbent: Incumbent
    cache: FiguresCache
    progress: Progress

    def form(self, count: int, seed: int, parent_PH: Tensor, rows: Rows) -> Form:
        """Return single scores and pairwise terms (zero without covariances), fitted to children if `rows` has KLs.

        `count`: number of children. `parent_PH`: the parent's final hidden states for covariances. `rows`: what the sweep stored.
        The result is the same bytes for any number of threads.
        """
        with Workers(self.runner.device):  # so that no product is split among threads
            covariance_RR = None
            if rows.states is not None:
                covariance_RR = covariances(self.runner.logits, parent_PH, rows.states.all()).cpu().numpy()
            if rows.kls is None:
                size = len(self.todo)
                return Form(
                    np.zeros(size), np.zeros((size, size)) if covariance_RR is None else covariance_RR
                )
            kl_RP = rows.kls.all()[:, :, 0].numpy().astype(np.float64)
            return self._fitted(count, seed, kl_RP, covariance_RR)

    def _fitted(self, count: int, seed: int, kl_RP: Floats, covariance_RR: Floats | None) -> Form:
        places = Places.of(self.todo, self.shape)
        self.progress.start("children", count)
        form = Form(kl_RP.mean(axis=1), np.zeros((len(kl_RP), len(kl_RP))))
        measured: list[tuple[Child, float]] = []
        for wave in (count // 2, count - count // 2):
            known = [rows for rows, _ in measured]
            for rows in drawn(places, form.singles_R, form.pairs_RR, wave, seed + len(measured), known):
                measured.append((rows, self._whole(rows)))
                self.progress.advance(score=measured[-1][1])
            found = fitted(kl_RP, covariance_RR, measured)
            form = form if found.fit is None else found  # unfitted covariances would propose bad children
        return found

    def _whole(self, rows: Child) -> float:
        """Return the KL divergence of a child, from the cache or measured now."""
        names = [(r.layer, r.table, r.name) for r in (self.todo[row] for row in rows)]
        name: Name = (WHOLE, "child", hashlib.sha256(repr(names).encode()).hexdigest()[:24])
        if name not in self.cache.figures:
            with ExitStack() as stack:
                for row in rows:
                    stack.enter_context(self.todo[row].applied(self.incumbent))
                self.cache.add(name, self.measure.figures(final_states(self.runner, self.measure)))
        return self.cache.figures[name]["kl_divergence"]
