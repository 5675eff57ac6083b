"""Best answers with all pins (fixed alternatives) at once, if rows are the only constraints: two-sided label setting.

A label is a choice for some layers, with its sums of the objective and of the rows. An answer with a pin is a column that has
it, an inner label of the other layers of its group, and an outside label of the layers outside the group. All pins of a group
share the outside labels, and all pins of a layer the inner ones. Labels of all layers but one each come from halving (`_others`).
A label is left out if at varied prices no pin can have an answer with it within the pin's limit. Sums are whole numbers up to
2^50, which floats hold exactly; priced sums have a tolerance far above their rounding errors, so that no answer is lost.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from puzzledsl.search.label_setting.labels import Step, best_of_each, variations
from puzzledsl.search.label_setting.sweep import Index
from puzzledsl.search.problem.columns import Floats, Ints, Mask
from puzzledsl.search.problem.instance import Effort, Problem

GROUPS = 3
MOST_LABELS = 400_000  # labels of one list; with more, its pins are left out
MOST_PAIRS = 30_000_000  # pairs of labels tried for a layer
ROUNDING = 1e-10  # tolerance of priced sums, as a share of the largest
DOMINATED = 0.05  # share of dominated labels below which dominance is not looked for again
REST = 8  # layers for which it then is not


@dataclass(slots=True, eq=False)
class Labels:
    """Labels of some layers. `figures` [1 + rows][label]: objective, then rows. `floor` [way]: least priced sums of the layers.

    `step`: how to read back the columns; None without layers.
    """

    figures: Floats
    floor: Floats
    step: Step | None = None

    def __len__(self) -> int:
        return int(self.figures.shape[1])

    def columns(self, label: int) -> list[int]:
        """Return the columns of a label."""
        return [] if self.step is None else self.step.columns(np.array([label]))[:, 0].tolist()


class Priced:
    """A problem's columns, priced in several ways: the objective plus the rows at some prices, or one row alone.

    `ways` [way, 1 + rows]: weights of the objective and the rows, at the given prices first. `above` [way, column]: how far a
    column lies above its layer's least one. `room` [way]: how far a whole answer with an objective of 0 may lie above these.
    """

    def __init__(self, problem: Problem, prices: Floats) -> None:
        columns, rows = problem.columns, len(problem.rows)
        varied = np.array([*variations(prices, problem.row_sizes)])
        self.problem, self.prices, self.rest = problem, prices, 0
        self.figures = np.vstack([problem.goal.values, problem.matrix]).astype(np.float64)
        self.ways = np.vstack([np.insert(varied, 0, 1.0, axis=1), np.eye(rows, rows + 1, 1)])
        priced = self.ways @ self.figures
        self.least: Floats = columns.least(priced)
        self.above = priced - np.repeat(self.least, columns.sizes, axis=1)
        sizes = np.array([problem.goal_size, *problem.row_sizes])
        limits = self.ways @ np.array([0, *problem.limits]) - self.least.sum(axis=1)
        self.room: Floats = limits + ROUNDING * (self.ways @ sizes)

    def lower(self) -> Floats:
        """Return a lower bound on the objective of answers with each column, [columns]; infinite if there are none."""
        over = self.above - self.room[:, None]
        priced = self.ways[:, 0] > 0
        return np.asarray(np.where((over[~priced] > 0).any(axis=0), np.inf, over[priced].max(axis=0)))

    def slack(self, labels: Labels) -> Floats:
        """Return the slack of labels at the given prices."""
        return np.asarray(self.ways[0] @ labels.figures - labels.floor[0])

    def extended(self, labels: Labels, layer: int, limits: Floats) -> Labels | None:
        """Extend labels by each column of a layer within limits, [way]; None if there are too many."""
        columns = self.problem.columns
        begin, end = int(columns.start[layer]), int(columns.start[layer + 1])
        here = begin + np.flatnonzero((self.above[:, begin:end] <= limits[:, None]).all(axis=0))
        i, j = (self.slack(labels)[:, None] + self.above[0, here] <= limits[0]).nonzero()
        if len(i) > MOST_LABELS:
            return None
        floor, column = labels.floor + self.least[:, layer], here[j]
        figures = labels.figures[:, i] + self.figures[:, column]
        fits = np.flatnonzero((self.ways @ figures <= (limits + floor)[:, None]).all(axis=0))
        if len(fits) < len(i):
            i, column, figures = i[fits], column[fits], figures[:, fits]
        if self.rest:
            self.rest -= 1
        elif len(i) > 1:
            whole = figures.astype(np.int64)
            keep = best_of_each(whole[1:], whole[0], np.zeros((0, len(i)), np.int64))
            if len(keep) > (1 - DOMINATED) * len(i):
                self.rest = REST
            if len(keep) < len(i):
                i, column, figures = i[keep], column[keep], figures[:, keep]
        return Labels(figures, floor, Step(i.astype(np.int32), column.astype(np.int32), labels.step))


def _others(
    parts: Sequence[Ints], labels: Labels | None, extend: Callable[[Labels, Ints, Ints], Labels | None]
) -> Iterator[tuple[Ints, Labels]]:
    """Yield each of `parts` (of the layers) with the labels of all layers outside it. `labels`: of those outside all parts."""
    if labels is None:
        return
    if len(parts) == 1:
        yield parts[0], labels
        return
    half = len(parts) // 2
    for mine, rest in ((parts[:half], parts[half:]), (parts[half:], parts[:half])):
        yield from _others(mine, extend(labels, np.concatenate(rest), np.concatenate(mine)), extend)


class Together:
    """Search for the best answer with a sum up to `most[pin]` for each pin. `owns[pin]`: the pin's columns, all of one layer.

    An entry is a pin with one of its columns; `limits[way][entry]`: what it leaves to other layers.
    """

    def __init__(self, priced: Priced, owns: Sequence[Ints], most: Ints, effort: Effort) -> None:
        self.priced, self.most, self.effort = priced, most, effort
        pin, column = np.repeat(np.arange(len(owns)), [*map(len, owns)]), np.concatenate(owns)
        limits = priced.room[:, None] + priced.ways[:, :1] * most[pin] - priced.above[:, column]
        good = (limits >= 0).all(axis=0)
        self.pin, self.column, self.limits = pin[good], column[good], limits[:, good]
        self.layer = priced.problem.columns.layer_of[self.column]
        self.complete, self.answers = np.ones(len(owns), dtype=np.bool_), list[Ints]()
        self.complete[self.pin] = False

    def run(self) -> tuple[Mask, list[Ints]]:
        """Meet the inner labels of each layer with the outside labels of its group.

        Return the mask of pins whose search is complete, and the answers found.
        """
        priced, columns = self.priced, self.priced.problem.columns
        clear = [np.sort(priced.above[0, columns.span(layer)])[:2].max() for layer in range(columns.layers)]
        order = np.argsort(-np.array(clear), kind="stable")  # clearest choices first
        start = Labels(np.zeros((len(priced.figures), 1)), np.zeros(len(priced.ways)))
        groups = [order[k::GROUPS] for k in range(min(GROUPS, len(order)))]
        for group, outside in _others(groups, start, self._extended):
            own = np.isin(self.layer, group)
            if not own.any() or not len(outside):
                self.complete[self.pin[own]] = True
                continue
            room, slack = float(self.limits[0, own].max()), self.priced.slack(outside)
            index = Index(outside.figures, slack, self.priced.prices, room)
            for here, inner in _others(np.split(group, len(group)), start, self._extended):
                own = (self.layer == here[0]).nonzero()[0]
                if self.effort.left_s > 0 and len(own) * len(inner) <= MOST_PAIRS:
                    self._meet(own, inner, outside, index)
        return self.complete, self.answers

    def _extended(self, labels: Labels, rest: Ints, mine: Ints) -> Labels | None:
        """Extend labels by the layers `rest` within what entries in `mine` leave; None without entries, or if over limits."""
        own = np.isin(self.layer, mine)
        limits = self.limits[:, own].max(axis=1, initial=0.0)
        found: Labels | None = labels if own.any() else None
        for layer in rest.tolist():
            if found is None or self.effort.left_s <= 0:
                return None
            found = self.priced.extended(found, layer, limits)
        return found

    def _meet(self, own: Ints, inner: Labels, outside: Labels, index: Index) -> None:
        """Keep the best answer of each pin of a layer, whose entries are `own`; nothing if there are too many pairs to try."""
        priced, problem = self.priced, self.priced.problem
        sums = priced.ways @ inner.figures - inner.floor[:, None]
        entry, label = (sums[0] <= self.limits[0, own][:, None]).nonzero()
        entry = own[entry]
        fits = np.flatnonzero((sums[1:, label] <= self.limits[1:, entry]).all(axis=0))
        entry, label = entry[fits], label[fits]
        used = inner.figures[:, label] + priced.figures[:, self.column[entry]]
        most = np.vstack([self.most[self.pin[entry]], np.repeat(problem.limits[:, None], len(entry), axis=1)])
        found = index.pairs(most - used, self.limits[0, entry] - sums[0, label], MOST_PAIRS)
        if found is None:
            return
        self.complete[self.pin[own]] = True
        model, part, _ = found
        pins, goal = self.pin[entry[model]], used[0, model] + outside.figures[0, part]
        order = np.lexsort((goal, pins))
        for place in order[np.diff(pins[order], prepend=-1) > 0].tolist():
            m, p = int(model[place]), int(part[place])
            taken = [int(self.column[entry[m]]), *inner.columns(int(label[m])), *outside.columns(p)]
            chosen = np.empty(problem.columns.layers, dtype=np.int64)
            chosen[problem.columns.layer_of[taken]] = taken
            self.answers.append(chosen)
