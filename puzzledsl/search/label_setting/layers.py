"""Label setting layer by layer, vectorised: all partial models (labels) that may still become good answers, as arrays.

A label is pruned if a meter exceeds its limit (see `meters.py`), or if a label with the same use of every row dominates it: one
with a lower objective, or with the same one and first in the order of the space. So the canonical best answer is never pruned.
If a layer has too many labels, the most promising are extended first and the others wait; answers found meanwhile prune some of
these. With a `width`, waiting labels are discarded (beam search), which finds good answers fast and proves nothing. After many
labels, suffixes over the last layers are listed and looked up (see `tails.py`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from puzzledsl.search.label_setting.dominance import added, best_of_each
from puzzledsl.search.label_setting.grid import pairs_of
from puzzledsl.search.label_setting.layout import Layout, layout_of
from puzzledsl.search.label_setting.partial import Aside, Models, Step
from puzzledsl.search.label_setting.suffixes import TOGETHER as AT_ONCE
from puzzledsl.search.label_setting.suffixes import Endings, Tails
from puzzledsl.search.lagrangian.bound import Bound
from puzzledsl.search.problem.instance import Ints, Problem

TOGETHER = 3000  # labels extended at once
MANY = 32_000  # the same, once there are tails: the more at once, the more are dominated
A_LOOK = 256  # labels per layer that are completed heuristically in search of an answer
WORTH = 0.05  # share of dominated labels below which dominance checks pause
RESTS = 3  # layers for which they pause
A_GROUP = 8  # meters checked at a time
A_BLOCK = 200_000  # pairs of labels and columns checked at a time
FIRST_TAILS = 20_000  # labels after which tails are listed for the first time
MORE_TAILS = 5  # growth of that number before they are listed again, further up
MOST_TAILS = 2_000_000
PAIRS_A_MODEL = 30  # candidate tails that take as long as one label


@dataclass(frozen=True, slots=True, eq=False)
class Swept:
    """Result of a sweep for answers with sums up to a limit.

    `chosen`: best answer found, with the sum `value`; it may be above the limit. `complete`: an answer within the limit is the
    canonical best one, and otherwise none exists within the limit. If not complete, no answer within the limit is below `bound`.
    """

    chosen: Ints | None
    value: int | None
    complete: bool
    bound: int | None = None
    models: int = 0  # number of labels


def sweep(
    layout: Layout,
    most: int,
    *,
    known: int | None = None,
    width: int | None = None,
    work: int | None = None,
    deadline: float | None = None,
) -> Swept:
    """Find the best answer with a sum up to `most`; also keep any better than `known`, the sum of a known answer.

    Incomplete with a `width` (beam search), after `work` labels, or after the deadline (monotonic clock).
    """
    return Sweep(layout, most, known, width, deadline).run(work)


def sweep_of(
    problem: Problem,
    bound: Bound,
    most: int,
    *,
    known: int | None = None,
    width: int | None = None,
    deadline: float | None = None,
) -> Sweep | None:
    """Prepare a sweep of a problem for answers with sums up to `most`; None if its integers or formulas are too large.

    Other modules use label setting only through this function. `known`, `width`, `deadline`: as for `sweep`.
    """
    layout = layout_of(problem, bound, most)
    return None if layout is None else Sweep(layout, most, known, width, deadline)


def sweep_all(layout: Layout, most: int, *, work: int, deadline: float) -> Ints | None:
    """Return all answers with sums up to `most`, [answer][layer], best first, ties in the order of the space.

    None if that takes more than `work` labels or exceeds the deadline.
    """
    search = _Every(layout, most, None, None, deadline)
    if not search.run(work).complete:
        return None
    if not search.found:
        return np.zeros((0, layout.problem.columns.layers), dtype=np.int64)
    chosen = np.vstack([columns for columns, _ in search.found])
    keys = np.hstack([keys for _, keys in search.found])
    return np.asarray(chosen[np.lexsort(keys[::-1])])


class _Late(Exception):
    """Raised when the deadline has passed."""


class Sweep:
    """A sweep that can be interrupted after a number of labels and continued."""

    def __init__(
        self, layout: Layout, most: int, known: int | None, width: int | None, deadline: float | None
    ) -> None:
        self.layout, self.meters = layout, layout.meters.at(most)
        self.known = most if known is None else known
        self.width, self.deadline = width, deadline
        self.last: int | None = None  # value of `done` at which it stops
        self.waiting: list[Aside] = []
        self.best: Swept | None = None
        self.first: tuple[int, tuple[int, ...]] | None = None  # objective and place of `best`
        self.done = 0
        self.rest = 0
        self.endings: Endings | None = None
        self.next_tails = FIRST_TAILS  # value of `done` at which tails are listed next

        if not layout.hopeless and not (self.meters.room < 0).any():
            none = np.zeros((len(self.meters.limits), 1), np.int64)
            self._wait(Models(0, none, none[0], layout.first_words[:, None], none[0], None))

    def tighten(self, value: int) -> None:
        """Lower the limit to the sum of an answer found elsewhere."""
        if value < self.known:
            self.known = value
            self.best = self.best and replace(self.best, chosen=None, value=None)
            self.meters = self.meters.at(min(value, self.meters.most))

    def run(self, work: int | None = None) -> Swept:
        """Sweep all layers; stop after `work` more labels."""
        self.last = None if work is None else self.done + work
        while self.waiting:
            if self._stops():
                return self._stopped()
            self._follow(self._hopeful(self.waiting.pop().models(self.meters)))
        complete = self.width is None
        return replace(self.best or Swept(None, None, False), complete=complete, models=self.done)

    def _stops(self) -> bool:
        return (self.last is not None and self.done > self.last) or self._late()

    def _late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

    def _hopeful(self, models: Models) -> Models:
        """Return the labels that are still within the limits, which may have become lower."""
        rows = self.meters.rows
        fits = self._at_least(models)[rows:] <= self.meters.limits[rows:, None]
        return models.only(np.asarray(fits.all(axis=0)))

    def _at_least(self, models: Models) -> Ints:
        """Return lower bounds on the meters of every completion, [meter][model]."""
        return np.asarray(models.sums + self.meters.ahead(models.stage, models.states))

    def _follow(self, models: Models) -> None:
        """Extend labels from their layer to the last one, or put them aside when the sweep stops."""
        while len(models) and models.stage < len(self.layout.order):
            if self._stops():
                self._wait(models)
                return
            try:
                grown = self._grown(models)
            except _Late:
                self._wait(models)
                return
            models = self._metered(self._merged(self._lawful(grown)), models)
            self.done += len(models)
            if self.width is None and self.done >= self.next_tails:
                self._seek_tails()
            tails = None if self.endings is None else self.endings.at(models.stage)
            if tails is not None and self._ended(models, tails):
                return
            if len(models) > self._together():
                models = self._promising(models)
            self._look(models)
        if len(models):
            self._finish(models)

    def _wait(self, models: Models) -> None:
        if len(models):
            least = int(self.meters.least_goal(self._at_least(models)).min())
            self.waiting.append(Aside.of(models, self.meters, least))

    def _together(self) -> int:
        return self.width or (TOGETHER if self.endings is None else max(TOGETHER, MANY))

    def _grown(self, models: Models) -> Models:
        """Extend each label by each column of the next layer, if no meter exceeds its limit.

        If there are many, only the sums of the rows are computed; `_metered` adds the others after dominance.
        """
        layout, limits = self.layout, self.meters.limits
        begin, end = layout.columns(models.stage)
        deltas, main = self.meters.deltas[:, begin:end], self.meters.rows
        pairs = self._fitting(models, deltas[main])
        if len(pairs[0]) <= A_BLOCK:
            i, j, states = self._within(models, deltas, *pairs)
        else:
            blocks = [slice(at, at + A_BLOCK) for at in range(0, len(pairs[0]), A_BLOCK)]
            parts = [self._within(models, deltas, *(p[block] for p in pairs)) for block in blocks]
            i, j, states = (np.concatenate(part) for part in zip(*parts, strict=True))
        j = j + begin
        read = main if len(i) >= MANY else len(limits)
        return Models(
            models.stage + 1,
            added(self.meters.deltas[:read], models.sums[:read], j, i),
            models.goal[i] + layout.goal[j],
            added(layout.words, models.words, j, i),
            states,
            Step(i.astype(np.int32), j.astype(np.int32), models.step),
        )

    def _within(
        self, models: Models, deltas: Ints, i: Ints, j: Ints, states: Ints
    ) -> tuple[Ints, Ints, Ints]:
        """Return the pairs (label, column, next state) within the limits of all meters. Raises _Late after the deadline."""
        if self._late():
            raise _Late
        limits = self.meters.limits
        ahead = self.meters.ahead(models.stage + 1, states)
        for first in range(0, len(limits), A_GROUP):
            part = slice(first, first + A_GROUP)
            after = models.sums[part].take(i, axis=1) + deltas[part].take(j, axis=1)
            if isinstance(ahead, np.ndarray):
                after += ahead[part]
            fits = (after <= limits[part, None]).all(axis=0)
            i, j, states = i[fits], j[fits], states[fits]
            if isinstance(ahead, np.ndarray):
                ahead = ahead[:, fits]
        return i, j, states

    def _fitting(self, models: Models, deltas: Ints) -> tuple[Ints, Ints, Ints]:
        """Return labels, columns and next states of the pairs that keep the main meter within its limit."""
        main, stage = self.meters.rows, models.stage
        limit = self.meters.limits[main]
        if stage >= self.layout.stages:
            i, j = (models.sums[main][:, None] + deltas <= limit).nonzero()
            return i, j, np.zeros(len(i), dtype=np.int64)
        then = self.layout.then[stage]
        after = deltas + self.meters.to_end[stage + 1][main][then]
        i, j = (after[models.states] <= (limit - models.sums[main])[:, None]).nonzero()
        return i, j, then[models.states[i], j]

    def _metered(self, grown: Models, models: Models) -> Models:
        """Complete the sums of all meters of grown labels, from the labels that they extend."""
        if grown.step is None or len(grown.sums) == len(self.meters.limits):
            return grown
        sums = added(self.meters.deltas, models.sums, grown.step.column, grown.step.before)
        return replace(grown, sums=sums)

    def _lawful(self, models: Models) -> Models:
        """Return the labels that satisfy the formulas whose last layer this is."""
        marks = self.layout.marks
        if marks is not None:
            for formula in self.layout.due[models.stage - 1]:
                models = models.only(marks.holds(formula, models.words[: marks.words]))
        return models

    def _merged(self, models: Models) -> Models:
        """Dominance: of labels with equal row sums, equal relevant marks and equal state, keep the best."""
        if self.rest > 0 or len(models) < 2:
            self.rest -= 1
            return models
        marked = self.layout.pending[models.stage - 1]
        keys = np.vstack([models.sums[: self.meters.rows], models.words[: len(marked)] & marked[:, None]])
        if models.stage < self.layout.stages:
            keys = np.vstack([keys, models.states])
        keep = best_of_each(keys, models.goal, models.words[len(marked) :])
        if len(keep) > (1 - WORTH) * len(models):
            self.rest = RESTS
        return models if len(keep) == len(models) else models.only(keep)

    def _promising(self, models: Models) -> Models:
        """Return the labels with the lowest bounds; put the others aside, or discard them in a beam search."""
        rows, meters = self.meters.rows, self.meters
        over = (self._at_least(models)[rows:] - meters.limits[rows:, None]) / meters.scales[:, None]
        order = np.argsort(over.max(axis=0), kind="stable")
        together = self._together()
        if self.width is None:
            nearest = models.only(order[together : together + 1])  # by floats, so others may be lower by 1
            least = int(self.meters.least_goal(self._at_least(nearest))[0]) - 1
            self.waiting.append(Aside.of(models.only(order[together:]), self.meters, least))
        return models.only(order[:together])

    def _look(self, models: Models) -> None:
        """Complete some labels with the cheapest columns at each variation of the prices; keep a better answer."""
        if not len(models):
            return
        rest, meters, stage = self.layout.rest, self.meters, models.stage
        states = models.states[:A_LOOK]
        use, goal = rest.use[stage], rest.goal[stage]
        if stage < self.layout.stages:
            use, goal = use[:, :, states], goal[:, states]
        sums = models.sums[: meters.rows, None, :A_LOOK] + use
        fits = np.asarray((sums <= meters.limits[: meters.rows, None, None]).all(axis=0))
        goals = models.goal[None, :A_LOOK] + goal
        way, model = divmod(int(np.argmin(np.where(fits, goals, 2**62))), fits.shape[1])
        value = int(goals[way, model]) + self.layout.floor
        if not fits[way, model] or value >= self.known:
            return
        ending = rest.completion(way, stage, int(states[model]))
        chosen = self.layout.chosen([*models.columns(model), *ending])
        if self.layout.lawful(chosen):
            self.best, self.known = Swept(chosen, value, False), value
            self.meters = meters.at(min(value, meters.most))

    def _finish(self, models: Models) -> None:
        """Keep the best of complete models; ties are broken by the order of the space."""
        marked = 0 if self.layout.marks is None else self.layout.marks.words
        model = int(best_of_each(np.zeros((0, len(models)), np.int64), models.goal, models.words[marked:])[0])
        value = int(models.goal[model]) + self.layout.floor
        if value > self.known:  # within every priced objective, but worse than the answer of `_look`
            return
        first = value, tuple(models.words[marked:, model].tolist())
        if self.first is None or first < self.first:
            self.first, self.known = first, value
            self.best = Swept(self.layout.chosen(models.columns(model)), value, False)
            self.meters = self.meters.at(min(value, self.meters.most))

    def _seek_tails(self) -> None:
        """List about as many tails as there were labels, which pays off if as many labels are still to come."""
        self.endings = None  # frees the memory of the earlier ones first
        self.endings = Endings(self.layout, self.meters, min(self.done, MOST_TAILS), self.deadline)
        self.next_tails *= MORE_TAILS

    def _ended(self, models: Models, tails: Tails) -> bool:
        """Look up the completions of labels among the tails and keep the best answer. True if all were looked up."""
        for begin in range(0, len(models), AT_ONCE):
            if self._late():
                return False
            part = self._hopeful(models.only(np.arange(begin, min(begin + AT_ONCE, len(models)))))
            rows, limits = self.meters.rows, self.meters.limits
            room, left = limits[:rows, None] - part.sums[:rows], limits[rows] - part.sums[rows]
            spare = self.known - self.layout.floor - part.goal
            found = pairs_of(tails.grid, room, left, self.meters.weights, spare)
            if found is None:
                return False
            self.done += found[2] // PAIRS_A_MODEL
            if len(found[0]):
                self._finish(self._completed(part, tails, found[0], found[1]))
        return True

    def _completed(self, models: Models, tails: Tails, model: Ints, tail: Ints) -> Models:
        """Return the complete models of the pairs (model, tail) with the lowest objective."""
        goal = models.goal[model] + tails.grid.goal[tail]
        best = goal == goal.min()
        models, columns = models.only(model[best]), tails.columns(tail[best])
        step, own = models.step, np.arange(len(models), dtype=np.int32)
        for column in columns.T:
            step = Step(own, column.astype(np.int32), step)
        words = models.words + self.layout.words[:, columns].sum(axis=2)
        return Models(len(self.layout.order), models.sums, goal[best], words, models.states, step)

    def _stopped(self) -> Swept:
        """Return the incomplete result of an interrupted sweep, with the bound of the waiting labels."""
        least = min(aside.least for aside in self.waiting)
        best = self.best or Swept(None, None, False)
        return replace(best, bound=min(least, self.meters.most), models=self.done)


class _Every(Sweep):
    """A sweep that keeps every answer: no dominance, and limits stay."""

    def __init__(
        self, layout: Layout, most: int, known: int | None, width: int | None, deadline: float | None
    ) -> None:
        super().__init__(layout, most, known, width, deadline)
        self.found: list[tuple[Ints, Ints]] = []  # (columns [answer][layer], keys: objective, then place)
        self.next_tails = 2**62  # never: tails find only the best completions

    def _merged(self, models: Models) -> Models:
        return models

    def _look(self, models: Models) -> None:
        pass

    def _finish(self, models: Models) -> None:
        # the limits of priced objectives alone admit some models above `most`
        models = models.only(models.goal + self.layout.floor <= self.meters.most)
        marked = 0 if self.layout.marks is None else self.layout.marks.words
        chosen = np.repeat(self.layout.problem.columns.start[None, :-1], len(models), axis=0)
        chosen[:, self.layout.order] = models.all_columns()
        self.found.append((chosen, np.vstack([models.goal, models.words[marked:]])))
