"""Many pinned problems laid out side by side for a label sweep: each pin's columns, meters and order of layers.

Meters are sums over layers with a limit: the goal priced in several ways, the goal, and the rows. Each layer's least value is
taken out, so every meter only grows: a label above a limit is in no answer that is sought. All numbers are exact integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from puzzledsl.search.bound import precision
from puzzledsl.search.instance import Ints, Problem
from puzzledsl.search.interior import Floats
from puzzledsl.search.pin_endings import Endings, endings_of
from puzzledsl.search.pin_prices import EXCLUDED, PinBounds, priced_columns
from puzzledsl.search.pins import Pin

SPREAD = 0.15  # how far prices are varied, in logarithms
GOAL = 1  # the meter; the first is the priced goal, the rows come after it
ROWS = 2
FIELD = 16  # bits of a packed meter: the top one says that nothing is below 0 yet
FIELDS = 4  # in a word
UNITS = 2 ** (FIELD - 2)  # that a packed meter's limit is divided into
GUARDS = np.int64(sum(1 << (FIELD * (i + 1) - 1) for i in range(FIELDS)) - 2**64)
MANY_STAGES = 16  # layers with a choice, from which on the last ones are listed as endings


@dataclass(slots=True, eq=False)
class PinLayout:
    """The choices of all pins. Pin p has `stages[p]` layers with a choice; its stage s is group `first[p] + s`, whose columns are
    the entries `begin[group]` to `begin[group] + size[group] - 1` of `columns` and of `deltas[meter]`, the least slack first.

    `room[meter][pin]` is the limit, with the least of every layer taken out. The meters are the priced goal, the goal and the
    rows. `packed[word][entry]` and `packed_room[word][pin]` are the goal at varied prices, several in a word, rounded so that no
    answer is lost. `base[pin]` are the columns of layers without a choice (and any of the others). `endings`: the choices of
    some layers that are no stages, where they are listed; `ending_floor[meter][pin]` is the least of those layers.
    """

    columns: Ints
    deltas: Ints
    room: Ints
    packed: Ints
    packed_room: Ints
    first: Ints
    stages: Ints
    begin: Ints
    size: Ints
    base: Ints
    endings: Endings | None
    ending_floor: Ints


def pin_layout(problem: Problem, pins: Sequence[Pin], bounds: PinBounds, most: Ints) -> PinLayout:
    """The layout of pins for answers whose goal is at most `most[pin]`."""
    layers, count = problem.columns.layers, len(pins)
    core = _Core.of(problem, pins, bounds, most)
    starts = np.searchsorted(core.group, np.arange(count * layers))
    sizes = np.diff(np.append(starts, len(core.group)))
    pin = core.group // layers
    figures = np.vstack([core.slack, problem.goal.values[core.column], problem.matrix[:, core.column]])
    limits = np.vstack([core.left, most, np.repeat(problem.limits[:, None], count, axis=1)])
    deltas, floors, room = _lifted(figures, limits, starts, sizes)
    varied = _varied(problem, bounds, most, core.column, pin)
    packed, packed_room = _packed(*_lifted(*varied, starts, sizes)[::2], pin)
    share = np.full(count * layers, 2.0)  # of the room for slack: what the second column needs
    choices = (sizes > 1).nonzero()[0]
    share[choices] = core.slack[starts[choices] + 1] / np.maximum(core.left, 1)[choices // layers]
    endings = None
    if len(choices) > MANY_STAGES * count and (bounds.whole > 0).all(axis=0).any():
        pinned = np.array([pin.layer for pin in pins])
        shares = core.slack / np.maximum(core.left, 1)[core.group // layers]
        endings = endings_of(problem, share.reshape(count, layers), pinned, core.column, shares)
    staged = np.ones(layers, dtype=np.bool_)
    if endings is not None:
        staged[endings.layers] = False
    choices = choices[staged[choices % layers]]
    choices = choices[np.lexsort((-share[choices], choices // layers))]
    stages = np.bincount(choices // layers, minlength=count)
    return PinLayout(
        columns=core.column,
        deltas=deltas,
        room=room,
        packed=packed,
        packed_room=packed_room,
        first=np.cumsum(stages) - stages,
        stages=stages,
        begin=starts[choices],
        size=sizes[choices],
        base=core.column[starts].reshape(count, layers),
        endings=endings,
        ending_floor=floors.reshape(len(floors), count, layers)[:, :, ~staged].sum(axis=2),
    )


@dataclass(slots=True, eq=False)
class _Core:
    """The columns that an answer of each pin may have, sorted by pin, layer and slack: `group` is pin * layers + layer.
    `left[pin]`: how much slack an answer may have."""

    group: Ints
    column: Ints
    slack: Ints
    left: Ints

    @classmethod
    def of(cls, problem: Problem, pins: Sequence[Pin], bounds: PinBounds, most: Ints) -> _Core:
        priced = priced_columns(problem, pins, bounds.whole, bounds.scale)
        slack = priced - np.repeat(problem.columns.least(priced), problem.columns.sizes, axis=1)
        left = np.minimum(most * bounds.scale - bounds.exact, EXCLUDED // 2)
        pin, column = (slack <= np.maximum(left, 0)[:, None]).nonzero()
        own, group = slack[pin, column], pin * problem.columns.layers + problem.columns.layer_of[column]
        order = np.lexsort((own, group))
        return cls(group[order], column[order], own[order], left)


def _lifted(values: Ints, limits: Ints, starts: Ints, sizes: Ints) -> tuple[Ints, Ints, Ints]:
    """Meters with the least of each group taken out; those least ones, by group; and what is left of the limits, by pin."""
    floors = np.minimum.reduceat(values, starts, axis=1)
    room = limits - floors.reshape(*limits.shape, len(starts) // limits.shape[1]).sum(axis=2)
    return values - np.repeat(floors, sizes, axis=1), floors, room


def _varied(problem: Problem, bounds: PinBounds, most: Ints, column: Ints, pin: Ints) -> tuple[Ints, Ints]:
    """The goal at varied prices: of each pin's columns, and its limit."""
    figures = [np.zeros((0, len(column)), dtype=np.int64)]
    limits = [np.zeros((0, len(most)), dtype=np.int64)]
    for whole, scale in _variations(problem, bounds):
        priced = problem.goal.values[column] * scale[pin]
        for price, row in zip(whole.T, problem.matrix, strict=True):
            priced += price[pin] * row[column]
        figures.append(priced[None])
        limits.append((most * scale + whole @ problem.limits)[None])
    return np.vstack(figures), np.vstack(limits)


def _packed(deltas: Ints, room: Ints, pin: Ints) -> tuple[Ints, Ints]:
    """Meters of few bits, `FIELDS` in a word. What is added is rounded down, so that no sum is above what it was."""
    words = -(-len(deltas) // FIELDS)
    packed = np.zeros((words, deltas.shape[1]), dtype=np.int64)
    packed_room = np.full((words, room.shape[1]), GUARDS)
    for meter, (own, left) in enumerate(zip(deltas, room, strict=True)):
        unit = np.maximum(1, -(-left // UNITS))
        word, shift = meter // FIELDS, FIELD * (meter % FIELDS)
        packed[word] |= np.minimum(own // unit[pin], 2 * UNITS - 1) << shift
        packed_room[word] |= np.maximum(left // unit, 0) << shift
    return packed, packed_room


def _variations(problem: Problem, bounds: PinBounds) -> list[tuple[Ints, Ints]]:
    """Prices that are larger or smaller in patterns that are all different (Hadamard's), whole, with their scales: what is left
    of the budgets after some layers has other best prices. Those for which 64 bits are too few stay as they are."""
    prices = bounds.whole / bounds.scale[:, None]
    priced = np.flatnonzero((prices > 0).any(axis=0))
    signs = np.ones((1, 1))
    while len(signs) <= len(priced):
        signs = np.block([[signs, signs], [signs, -signs]])
    found = []
    for pattern in (*signs[:, 1 : len(priced) + 1], *-signs[:, 1 : len(priced) + 1]) if len(priced) else ():
        varied: Floats = prices.copy()
        varied[:, priced] *= np.exp(SPREAD * pattern)
        bits, fits = precision(problem, varied)
        scale = np.where(fits, np.int64(1) << bits, bounds.scale)
        whole = np.where(
            fits[:, None], np.rint(np.where(fits[:, None], varied, 0) * scale[:, None]), 0
        ).astype(np.int64)
        found.append((np.where(fits[:, None], whole, bounds.whole), scale))
    return found
