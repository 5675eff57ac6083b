"""Decision diagram of a problem's formulas: states between layers, and transitions by classes of columns.

A state is the residual of the formulas after the layers before it are chosen. States with the same future are merged (automaton
minimisation). Every path from the first state to the last satisfies all formulas. Layers that no formula mentions have no stage.
Source: Bergman, Cire, van Hoeve & Hooker, "Decision Diagrams for Optimization" (2016); Pesant, "A regular language membership
constraint" (2004).

Dynamic programming over a diagram gives cheapest paths, for several values of the columns at once:

    to_end[t][s]  = min over columns c of stage t:  value(c) + to_end[t + 1][next(s, c)]
    through(c)    = min over states s:  from_start[t][s] + to_end[t + 1][next(s, c)]

Shapes: V values, S states of a stage, C classes of a stage. Numbers are int64 below NEVER, or float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from time import monotonic
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from puzzledsl.search.problem.columns import Columns, Ints, Mask, mixed
from puzzledsl.search.problem.normal_form import Formula, NormalForm
from puzzledsl.search.problem.residuals import FALSE, TRUE, Residuals, classes_of, places_of

MOST_STATES = 4_000  # most states between two layers
WORK = 1_500_000  # about a second: work limit for one order of the layers, in parts of formulas looked at
NO_LIMIT = 2**60
QUICK, QUICK_A_LAYER = 200_000, 6_250
"""Work limit of a first try, before CP-SAT's first turn: QUICK, or QUICK_A_LAYER for each layer if that is more. It takes an
eighth of a second at 16 layers, where CP-SAT needs no more to solve the problem, and a third at 80."""
COLUMNS = 8  # number of open automata that doubles the time of a transition
A_STEP = 10  # work of a transition of one formula's automaton, in transitions of their product
FEW_STATES = 64  # up to this width, no other order of the layers is tried
DEAD = -1


@dataclass(frozen=True, eq=False)
class Diagram:
    """Decision diagram. `order`: the layers of the stages. `next[stage][state][class]`: the next state, or DEAD.

    `classes[column]`: class of the column in its layer; columns of a class have the same transitions. There is a single state
    before the first stage and a single one after the last, and every state is on a path. `feasible`: False if there is no path;
    then there are no stages.

    If columns have positions in runs of dropped layers, every path also numbers these positions in order. `whole`: False if the
    diagram is of these alone, because the formulas are too large.
    """

    order: tuple[int, ...]
    next: tuple[Ints, ...]
    classes: Ints
    feasible: bool = True
    whole: bool = True

    @classmethod
    def reduced(cls, order: Sequence[int], tables: Sequence[Ints], classes: Ints) -> Self:
        """Return the minimal diagram: states on no path removed, states with the same future merged."""
        merged = _merged(tables)
        if merged is None:
            return cls((), (), classes, feasible=False)
        return cls(tuple(order), merged, classes)

    def only(self, columns: Columns, keep: Mask) -> Diagram:
        """Return the diagram without columns outside `keep`. A layer with a single column left loses its stage."""
        if not self.feasible:
            return replace(self, classes=self.classes[keep])
        classes, order = self.classes.copy(), list[int]()
        tables: list[Ints] = []
        step: Ints | None = None  # state -> state over the fixed layers before the next stage
        for layer, table in zip(self.order, self.next, strict=True):
            here = columns.span(layer)
            own = classes[here][keep[here]]
            used, renamed = _used(own, table.shape[1])
            classes[here][keep[here]] = own = renamed[own]
            table = table[:, used]
            if step is not None:
                table = np.where((step >= 0)[:, None], table[step], DEAD)
            if len(own) == 1:
                step = table[:, 0]
            else:
                step = None
                order.append(layer)
                tables.append(table)
        if step is not None and tables:
            tables[-1] = np.where(tables[-1] >= 0, step[tables[-1]], DEAD)
        elif step is not None and step[0] == DEAD:
            tables = [step[:, None]]
        return replace(Diagram.reduced(order, tables, classes[keep]), whole=self.whole)


def diagram_of(
    columns: Columns, formulas: Sequence[Formula], quick: bool = False, deadline: float = inf
) -> Diagram | None:
    """Build the diagram of formulas, with the layers in their own order or in one with few open (begun, not finished) formulas.

    After the deadline (monotonic clock), or if WORK (QUICK if `quick`) is not enough, returns None, or, if there are runs of
    dropped layers, a diagram of these alone.
    """
    pool = NormalForm(columns, formulas)
    parts = [part for part in dict.fromkeys((*pool.runs, *_together(pool))) if part != TRUE]
    classes, firsts = np.zeros(len(columns), dtype=np.int64), dict[int, list[int]]()
    if FALSE in parts:
        return Diagram((), (), classes, feasible=False)
    for layer, masks in pool.masks(parts).items():
        here = columns.span(layer)
        firsts[layer], classes[here] = classes_of(frozenset(masks), tuple(range(columns.sizes[layer])))
    natural = sorted({layer for part in parts for layer in places_of(pool.layers[part])})
    first_try = max(QUICK, QUICK_A_LAYER * len(columns.sizes))
    work = (first_try if quick else WORK) if formulas else NO_LIMIT  # a diagram of runs alone is always built
    built = _Attempt(pool, firsts, natural, work, deadline if formulas else inf).build(parts)
    order = natural if built.tables is not None and built.widest <= FEW_STATES else _frugal(pool, parts)
    if order != natural:
        other = _Attempt(pool, firsts, order, built.work, deadline).build(parts)
        built = min(built, other, key=lambda each: (each.tables is None, each.steps, each.widest))
    if built.tables is not None:
        return Diagram.reduced(built.order, built.tables, classes)
    alone = diagram_of(columns, ()) if pool.runs else None
    return None if alone is None else replace(alone, whole=False)


def _together(pool: NormalForm) -> Iterator[int]:
    """Yield the conjuncts of all formulas, those on the same one or two layers joined into one."""
    found: dict[tuple[int, int], list[int]] = {}
    for part in (part for number in pool.formulas for part in pool.parts(number)):
        layers = pool.layers[part]
        found.setdefault((layers, part if layers.bit_count() > 2 else 0), []).append(part)
    yield from map(pool.every, found.values())


@dataclass(frozen=True, slots=True, eq=False)
class Automaton:
    """One formula as an automaton over layers, in stage order. A state is the residual formula; the first is 0.

    `tables[layer][state][class]`: the state after the layer, DEAD if the formula is then false. `first` and `last`: stages of
    the formula's first and last layer.
    """

    tables: Mapping[int, Ints]
    first: int
    last: int


@dataclass(slots=True, eq=False)
class _Attempt:
    """Building of a diagram with the layers in one order: the reachable part of the product of the formulas' automata.

    `firsts[layer]`: a column of each class of the layer. `work`: its limit, or the work done. `tables`: None if it was given up.
    `widest`: most states between two layers. `steps`: number of transitions.
    """

    pool: Residuals
    firsts: Mapping[int, Sequence[int]]
    order: list[int]
    work: int
    deadline: float
    tables: list[Ints] | None = None
    widest: int = 1
    steps: int = 0

    def build(self, parts: Sequence[int]) -> _Attempt:
        """Build the automata and their product, as long as work and time allow."""
        begins: list[list[Automaton]] = [[] for _ in self.order]
        most = self.pool.work + self.work
        for part in parts:
            automaton = self._automaton(part, most)
            if automaton is None:
                self.widest, self.steps = MOST_STATES, self.work
                return self
            begins[automaton.first].append(automaton)
        left = most - self.pool.work
        self._product(begins, left)
        if self.tables is not None:
            self.work += self.steps - left
        return self

    def _automaton(self, formula: int, most: int) -> Automaton | None:
        """Build the automaton of a formula; None if the pool's work exceeds `most`, or will, or the deadline passes."""
        pool, stage = self.pool, self.order.index
        layers = sorted(places_of(pool.layers[formula]), key=stage)
        ends = stage(layers[0]), stage(layers[-1])
        if len(layers) == 2:
            return Automaton(dict(zip(layers, self._of_two(formula, *layers), strict=True)), *ends)
        masks = pool.masks([formula])
        states, tables = {formula: 0}, {}
        for passed, layer in enumerate(layers):
            if monotonic() > self.deadline:
                return None
            before = pool.work
            firsts, own = classes_of(frozenset(masks[layer]), tuple(self.firsts[layer]))
            after: dict[int, int] = {}
            table = np.full((len(states), len(firsts)), DEAD, dtype=np.int64)
            for state, number in states.items():
                for place, column in enumerate(firsts):
                    pool.work += A_STEP
                    if pool.work > most:
                        return None
                    then = pool.assign(state, layer, column)
                    if then != FALSE:
                        table[number, place] = after.setdefault(then, len(after))
            # parts become fewer, states do not
            if pool.work + (pool.work - before) * (len(layers) - 1 - passed) // 2 > most:
                return None
            tables[layer] = table[:, own]
            states = after
        return Automaton(tables, *ends)

    def _of_two(self, formula: int, first: int, second: int) -> tuple[Ints, Ints]:
        """Return the transitions of a formula on two layers, from its truth table: however it is written, it costs the same."""
        pool, own, others = self.pool, self.firsts[first], self.firsts[second]
        answers = np.zeros((len(own), len(others), pool.columns.layers), dtype=np.int64)
        answers[:, :, first] = pool.columns.start[first] + np.array(own)[:, None]
        answers[:, :, second] = pool.columns.start[second] + np.array(others)
        pool.work += len(own) * len(others)
        holds = pool.truth(formula, answers.reshape(-1, pool.columns.layers)).reshape(len(own), -1)
        live = holds.any(axis=1)
        table = np.full((1, len(own)), DEAD, dtype=np.int64)
        rows, table[0, live] = _unique_rows(holds[live].T.astype(np.int64))
        return table, rows - 1  # true: the one last state, 0; false: DEAD

    def _product(self, begins: Sequence[list[Automaton]], most: int) -> None:
        """Set `tables` to the product of the automata that begin at each stage; leave None if over `most` steps or too late."""
        states, open_ = np.zeros((1, 0), dtype=np.int64), list[Automaton]()
        tables: list[Ints] = []
        for stage, (layer, begun) in enumerate(zip(self.order, begins, strict=True)):
            states = np.hstack([states, np.zeros((len(states), len(begun)), dtype=np.int64)])
            open_ += begun
            classes = len(self.firsts[layer])
            moving = sum(layer in automaton.tables for automaton in open_)
            self.steps += len(states) * classes * (1 + moving // COLUMNS)
            if self.steps > most or len(states) > MOST_STATES or monotonic() > self.deadline:
                return
            table, states, open_ = _advanced(states, open_, stage, layer, classes)
            live = int((table >= 0).sum())  # few of them where layers are tied
            self.steps += live * (len(open_) // COLUMNS)
            tables.append(table)
            self.widest = max(self.widest, len(states))
        self.tables = tables


def _advanced(
    states: Ints, open_: list[Automaton], stage: int, layer: int, classes: int
) -> tuple[Ints, Ints, list[Automaton]]:
    """Return the transitions of one stage, the states after it, and the automata that are open after it."""
    before, after = np.arange(len(states))[:, None], np.arange(classes)[None, :]
    live = np.ones((len(states), classes), dtype=np.bool_)
    moved: dict[int, Ints] = {}
    for place, automaton in enumerate(open_):
        if layer in automaton.tables:
            moved[place] = automaton.tables[layer][states[:, place]]
            live &= moved[place] >= 0
    before, after = (np.broadcast_to(part, live.shape)[live] for part in (before, after))
    kept = [place for place, automaton in enumerate(open_) if automaton.last > stage]
    columns = [moved[place][live] if place in moved else states[before, place] for place in kept]
    rows, inverse = _unique_rows(np.array(columns, dtype=np.int64).reshape(len(kept), len(before)))
    table = np.full(live.shape, DEAD, dtype=np.int64)
    table[live] = inverse
    return table, rows, [open_[place] for place in kept]


def _unique_rows(columns: Ints) -> tuple[Ints, Ints]:
    """Return the distinct rows, [row][column], of a table given as [column][row], and the number of each row's distinct row."""
    if columns.shape[1] < 2:
        return columns.T, np.zeros(columns.shape[1], dtype=np.int64)
    _, first, inverse = np.unique(mixed(columns), return_index=True, return_inverse=True)
    if not all(np.array_equal(column[first][inverse], column) for column in columns):
        # hash collision of two different rows
        _, first, inverse = np.unique(columns, axis=1, return_index=True, return_inverse=True)
        inverse = inverse.reshape(-1)
    return np.ascontiguousarray(columns[:, first].T), inverse


def _used(numbers: Ints, size: int) -> tuple[Ints, Ints]:
    """Return those of `size` numbers that are used, ascending, and the place of each among them."""
    used = np.zeros(size, dtype=np.bool_)
    used[numbers] = True
    return used.nonzero()[0], np.cumsum(used) - 1


def _frugal(pool: Residuals, parts: Sequence[int]) -> list[int]:
    """Return an order in which few formulas are open: greedily, the next layer opens few formulas and closes many."""
    mentioned = {part: set(places_of(pool.layers[part])) for part in parts}
    users: dict[int, list[int]] = {}
    for part, layers in mentioned.items():
        for layer in layers:
            users.setdefault(layer, []).append(part)
    left, order, begun = set(users), [], set[int]()

    def cost(layer: int) -> tuple[int, int]:
        opened = sum(part not in begun for part in users[layer])
        closed = sum(len(mentioned[part]) == 1 for part in users[layer])
        return opened - 2 * closed, layer

    while left:
        near = {layer for part in begun for layer in mentioned[part]} or {min(left)}
        layer = min(near, key=cost)
        order.append(layer)
        left.discard(layer)
        for part in users[layer]:
            mentioned[part].discard(layer)
            begun.add(part)
            if not mentioned[part]:
                begun.discard(part)
    return order


def _merged(tables: Sequence[Ints]) -> tuple[Ints, ...] | None:
    """Return the minimal diagram's transitions: states on no path removed, those of one future merged; None without a path."""
    renamed = np.zeros(1, dtype=np.int64)
    joined: list[Ints] = []
    for table in reversed(tables):
        moved = np.where(table >= 0, renamed[table], DEAD)
        live = (moved >= 0).any(axis=1)
        renamed = np.full(len(table), DEAD, dtype=np.int64)
        if not live.any():
            return None
        rows, inverse = _unique_rows(moved[live].T)
        renamed[live] = inverse
        joined.append(rows)
    if renamed[0] == DEAD:
        return None
    reached = renamed[:1]
    found: list[Ints] = []
    for table in reversed(joined):
        here = table[reached]
        reached, place = _used(here[here >= 0], int(table.max()) + 1)
        found.append(np.where(here >= 0, place[here], DEAD))
    return tuple(found)


NEVER = 2**62  # stands for infinity (no path); finite sums are below half of it
Values = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Paths:
    """Paths of a decision diagram over the columns of a problem."""

    columns: Columns
    diagram: Diagram

    @cached_property
    def ordered(self) -> Ints:
        """Columns of all stages, sorted by stage and class."""
        parts = [np.zeros(0, dtype=np.int64)]
        for here in map(self.columns.span, self.diagram.order):
            parts.append(here.start + np.argsort(self.diagram.classes[here], kind="stable"))
        return np.concatenate(parts)

    @cached_property
    def first(self) -> Ints:
        """First place in `ordered` of each class, with the classes of all stages numbered consecutively."""
        classes, layers = self.diagram.classes[self.ordered], self.columns.layer_of[self.ordered]
        new = np.ones(len(self.ordered), dtype=np.bool_)
        new[1:] = (classes[1:] != classes[:-1]) | (layers[1:] != layers[:-1])
        return new.nonzero()[0]

    @cached_property
    def class_sizes(self) -> Ints:
        """Number of columns of each class, [classes]."""
        return np.diff(np.append(self.first, len(self.ordered)))

    @cached_property
    def spans(self) -> list[slice]:
        """Range of the classes of each stage in the consecutive numbering."""
        ends = np.cumsum([table.shape[1] for table in self.diagram.next]).tolist()
        return [slice(begin, end) for begin, end in zip([0, *ends], ends, strict=False)]

    @cached_property
    def free(self) -> Ints:
        """Layers without a stage."""
        return np.setdiff1d(np.arange(self.columns.layers), np.array(self.diagram.order, dtype=np.int64))

    def least(self, values: Values) -> Values:
        """Return the least value of each class, [V][columns] -> [V][classes]."""
        if not len(self.first):
            return values[:, :0]
        return np.asarray(np.minimum.reduceat(values[:, self.ordered], self.first, axis=1))

    def to_end(self, least: Values) -> list[Values]:
        """Return the least value to the end from each state, [stages + 1][V][S + 1]; at DEAD (-1), it is NEVER or infinite."""
        never = _never(least)
        after = np.full((len(least), 2), never, dtype=least.dtype)
        after[:, 0] = 0
        found = [after]
        for table, span in zip(reversed(self.diagram.next), reversed(self.spans), strict=True):
            here = np.full((len(least), len(table) + 1), never, dtype=least.dtype)
            sums = after[:, table]  # DEAD indexes the last entry: NEVER
            sums += least[:, None, span]
            sums.min(axis=2, out=here[:, :-1])
            found.append(here)
            after = here
        return found[::-1]

    def slacks(self, values: Values) -> tuple[Values, Values]:
        """Return the least sum of an answer, [V], and how much larger the least sum with each column is, [V][columns]."""
        least = self.least(values)
        to_end, each = self.to_end(least), self.columns.least(values)
        slack = values - np.repeat(each, self.columns.sizes, axis=1)
        staged = to_end[0][:, :1]
        around = np.repeat(self._through(least, to_end), self.class_sizes, axis=1)
        above = values[:, self.ordered] + around - staged
        slack[:, self.ordered] = np.where(around >= NEVER / 2, _never(values), above)
        return staged[:, 0] + each[:, self.free].sum(axis=1), slack

    def _through(self, least: Values, to_end: list[Values]) -> Values:
        """Return the least sum of the other stages through each class, [V][classes]."""
        found, lines = np.empty_like(least), np.arange(len(least))[:, None]
        before = np.zeros((len(least), 1), dtype=least.dtype)
        for stage, (table, span) in enumerate(zip(self.diagram.next, self.spans, strict=True)):
            after = to_end[stage + 1]
            found[:, span] = (before[:, :, None] + after[:, table]).min(axis=1)
            live, states = table >= 0, after.shape[1] - 1
            sums = (before[:, :, None] + least[:, None, span])[:, live]
            before = np.full(len(least) * states, _never(least), dtype=least.dtype)
            np.minimum.at(before, (lines * states + table[live]).ravel(), sums.ravel())
            before = before.reshape(len(least), states)
        return found

    def cheapest(self, values: Values, least: Values, to_end: list[Values]) -> Ints:
        """Return the columns of a cheapest child for each of the V values, [V][layers]; of equals, the first class and column."""
        lines = np.arange(len(values))
        chosen = np.zeros((len(values), self.columns.layers), dtype=np.int64)
        for layer in self.free.tolist():
            here = self.columns.span(layer)
            chosen[:, layer] = here.start + values[:, here].argmin(axis=1)
        if not len(self.first):
            return chosen
        equal = values[:, self.ordered] == np.repeat(least, self.class_sizes, axis=1)
        place = np.where(equal, np.arange(len(self.ordered)), len(self.ordered))
        best = self.ordered[np.minimum.reduceat(place, self.first, axis=1)]  # first cheapest of each class
        state = np.zeros(len(values), dtype=np.int64)
        stages = zip(self.diagram.order, self.diagram.next, self.spans, strict=True)
        for stage, (layer, table, span) in enumerate(stages):
            after = table[state]
            sums = least[:, span] + to_end[stage + 1][lines[:, None], after]
            picked = sums.argmin(axis=1)
            chosen[:, layer] = best[lines, span.start + picked]
            state = after[lines, picked]
        return chosen


def _never(values: Values) -> Any:
    return NEVER if values.dtype == np.int64 else np.inf
