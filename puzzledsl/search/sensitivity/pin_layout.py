"""Arrays of many pinned problems for joint label setting: each pin's columns, resources and order of layers.

Resources are sums over layers with a limit: several priced objectives, the objective, and the rows. Each layer's least value is
subtracted, so resources only grow, and a label above a limit is part of no answer of interest. All numbers are exact integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from puzzledsl.search.lagrangian.bound import precision
from puzzledsl.search.problem.columns import Floats, Ints
from puzzledsl.search.problem.instance import Problem
from puzzledsl.search.sensitivity.pin_prices import EXCLUDED, PinBounds, priced_columns
from puzzledsl.search.sensitivity.pin_suffixes import PinSuffixes, pin_suffixes_of
from puzzledsl.search.sensitivity.pins import Pin

SPREAD = 0.15  # logarithmic variation of prices
GOAL = 1  # number of the objective's resource; resource 0 is the priced objective
ROWS = 2  # number of the first row's resource
FIELD = 16  # bits of a packed resource; the top bit is a guard that a borrow clears
FIELDS = 4  # packed resources in a word
UNITS = 2 ** (FIELD - 2)  # units that a packed resource's limit is divided into
GUARDS = np.int64(sum(1 << (FIELD * (i + 1) - 1) for i in range(FIELDS)) - 2**64)
MANY_STAGES = 16  # average number of layers with a choice above which the last ones are listed as suffixes


@dataclass(slots=True, eq=False)
class PinLayout:
    """Data of all pins. Pin p has `stages[p]` layers with a choice. Its stage s is group `first[p] + s`.

    The columns of a group are the entries from `begin[group]` on, `size[group]` of them, of `columns` and of `deltas[resource]`,
    least slack first. `room[resource][pin]`: limits less the least value of every layer, for the priced objective, the objective
    and the rows. `packed[word][entry]` and `packed_room[word][pin]`: priced objectives at varied prices, several in a word,
    rounded so that no answer is lost. `base[pin]`: the columns of layers without a choice (any column for others). `suffixes`:
    suffixes over layers that are no stages, if they are listed; `suffix_floor[resource][pin]`: sums of these layers' least
    values.
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
    suffixes: PinSuffixes | None
    suffix_floor: Ints


def pin_layout(problem: Problem, pins: Sequence[Pin], bounds: PinBounds, most: Ints) -> PinLayout:
    """Lay out pins for answers with sums up to `most[pin]`."""
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
    share = np.full(count * layers, 2.0)  # slack of the second column as a share of the pin's room
    choices = (sizes > 1).nonzero()[0]
    share[choices] = core.slack[starts[choices] + 1] / np.maximum(core.left, 1)[choices // layers]
    suffixes = None
    if len(choices) > MANY_STAGES * count and (bounds.whole > 0).all(axis=0).any():
        pinned = np.array([pin.layer for pin in pins])
        shares = core.slack / np.maximum(core.left, 1)[core.group // layers]
        suffixes = pin_suffixes_of(problem, share.reshape(count, layers), pinned, core.column, shares)
    staged = np.ones(layers, dtype=np.bool_)
    if suffixes is not None:
        staged[suffixes.layers] = False
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
        suffixes=suffixes,
        suffix_floor=floors.reshape(len(floors), count, layers)[:, :, ~staged].sum(axis=2),
    )


@dataclass(slots=True, eq=False)
class _Core:
    """Columns that may be in an answer of each pin, sorted by pin, layer and slack. `group`: pin * layers + layer.

    `left[pin]`: room for an answer's total slack.
    """

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
    """Return resources with each group's least value subtracted, these least values by group, and the limits left by pin."""
    floors = np.minimum.reduceat(values, starts, axis=1)
    room = limits - floors.reshape(*limits.shape, len(starts) // limits.shape[1]).sum(axis=2)
    return values - np.repeat(floors, sizes, axis=1), floors, room


def _varied(problem: Problem, bounds: PinBounds, most: Ints, column: Ints, pin: Ints) -> tuple[Ints, Ints]:
    """Return the priced objectives at varied prices: values [variation][entry] and limits [variation][pin]."""
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
    """Pack resources into FIELDS fields per word. Amounts are rounded down, so that no answer exceeds a packed limit."""
    words = -(-len(deltas) // FIELDS)
    packed = np.zeros((words, deltas.shape[1]), dtype=np.int64)
    packed_room = np.full((words, room.shape[1]), GUARDS)
    for resource, (own, left) in enumerate(zip(deltas, room, strict=True)):
        unit = np.maximum(1, -(-left // UNITS))
        word, shift = resource // FIELDS, FIELD * (resource % FIELDS)
        packed[word] |= np.minimum(own // unit[pin], 2 * UNITS - 1) << shift
        packed_room[word] |= np.maximum(left // unit, 0) << shift
    return packed, packed_room


def _variations(problem: Problem, bounds: PinBounds) -> list[tuple[Ints, Ints]]:
    """Return varied integer prices [pin][row] with their scales [pin], in the sign patterns of a Hadamard matrix.

    After some layers, other prices are best for the rest of the budgets. Variations that do not fit into 64 bits are replaced by
    the unvaried prices.
    """
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
