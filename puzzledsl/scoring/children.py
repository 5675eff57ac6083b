"""The form of a score beyond its single replacements: covariances where it has them, and a fit to children measured whole.

Half of the children are near the optima of the plain sum, the other half near those of what the first half made of it: a
prediction has to hold where the search that minimises it will look. What is measured is kept like the single figures.

Shapes: R replacements, P positions, H hidden.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from puzzledsl.ir.nodes import Shape
from puzzledsl.modeling.layerwise import LayerRunner
from puzzledsl.progress import Progress
from puzzledsl.scoring.draw import Floats, Places, drawn
from puzzledsl.scoring.draw import Rows as Child
from puzzledsl.scoring.fit import Form, fitted
from puzzledsl.scoring.incumbent import Incumbent
from puzzledsl.scoring.measures import Measure
from puzzledsl.scoring.pairwise import covariances
from puzzledsl.scoring.partial import Name, Partial
from puzzledsl.scoring.replacements import Replacement
from puzzledsl.scoring.sweep import Rows, final_states
from puzzledsl.scoring.workers import Workers

WHOLE = -2
"""The layer that figures of whole children are kept under."""


@dataclass(frozen=True, eq=False)
class Children:
    """What is needed to measure whole children."""

    todo: Sequence[Replacement]
    shape: Shape
    runner: LayerRunner
    measure: Measure
    incumbent: Incumbent
    partial: Partial
    progress: Progress

    def form(self, count: int, seed: int, parent_PH: Tensor, rows: Rows) -> Form:
        """Single scores and pairwise terms, fitted to `count` children where that is not 0.

        The same bytes however many threads there are.
        """
        with Workers(self.runner.device):  # no product of the caller is split
            covariance_RR = None
            if rows.states is not None:
                covariance_RR = covariances(self.runner.head, parent_PH, rows.states.all()).numpy()
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
            form = form if found.fit is None else found  # the theory alone would lead astray
        return found

    def _whole(self, rows: Child) -> float:
        """The KL of a child; measured unless it was."""
        names = [(r.layer, r.table, r.name) for r in (self.todo[row] for row in rows)]
        name: Name = (WHOLE, "child", hashlib.sha256(repr(names).encode()).hexdigest()[:24])
        if name not in self.partial.figures:
            with ExitStack() as stack:
                for row in rows:
                    stack.enter_context(self.todo[row].applied(self.incumbent))
                self.partial.add(name, self.measure.figures(final_states(self.runner, self.measure)))
        return self.partial.figures[name]["kl_divergence"]
