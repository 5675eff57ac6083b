"""Fit a score's single and pairwise terms to children that are measured whole.

A prediction has to hold where the search that minimises it will look. So half of the children are near optima of the plain sum,
and the other half near optima of the form fitted to the first half. Measured losses are cached like those of single replacements.

Shapes: R replacements, P positions, H hidden.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from puzzledsl.base.progress import Progress
from puzzledsl.ir.nodes import Shape
from puzzledsl.scoring.draw import Floats, Places, drawn
from puzzledsl.scoring.draw import Rows as Child
from puzzledsl.scoring.figures_cache import FiguresCache, Name
from puzzledsl.scoring.fit import Form, fitted
from puzzledsl.scoring.replacements import Replacement
from puzzledsl.scoring.scorer import Scorer
from puzzledsl.scoring.states import Rows

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

    def form(self, count: int, seed: int, rows: Rows) -> Form:
        """Return single scores and pairwise terms (zero without covariances), fitted to children if `rows` has KLs.

        `count`: number of children. `rows`: what the sweep stored. The result is the same bytes for any number of threads.
        """
        covariance_RR = None
        if rows.states is not None:
            covariance_RR = self.scorer.covariances(rows.states).cpu().numpy()
        if rows.kl is None:
            size = len(self.todo)
            return Form(np.zeros(size), np.zeros((size, size)) if covariance_RR is None else covariance_RR)
        kl_RP = rows.kl.all()[:, :, 0].numpy().astype(np.float64)
        return self._fitted(count, seed, kl_RP, covariance_RR)

    def _fitted(self, count: int, seed: int, kl_RP: Floats, covariance_RR: Floats | None) -> Form:
        places = Places.of(self.todo, self.shape)
        self.progress.start("children", count)
        form = Form(kl_RP.mean(axis=1), np.zeros((len(kl_RP), len(kl_RP))))
        measured: list[tuple[Child, float]] = []
        for wave in (count // 2, count - count // 2):
            known = [rows for rows, _ in measured]
            new = list(drawn(places, form.singles_R, form.pairs_RR, wave, seed + len(measured), known))
            measured += zip(new, self._losses(new), strict=True)
            found = fitted(kl_RP, covariance_RR, measured)
            form = form if found.fit is None else found  # unfitted covariances would propose bad children
        return found

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
