"""Answers that several pins share: every answer bounds the optimum of each pin that it has, and exchanges around the optimum give
each pin a first one.

An exchange sets a pin's column and changes at most two other layers, so that every row is met again (a 3-opt move of local
search).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from puzzledsl.search.bound import Bound
from puzzledsl.search.instance import Ints, Problem
from puzzledsl.search.pins import Pin

CHANGES = 240  # single columns that are combined: those with the least slack
EACH = 3  # columns of a pin that are exchanged
A_BLOCK = 1024  # combinations that are tried at once, the best first
TRIED = 64  # pinned columns at once


@dataclass(slots=True, eq=False)
class PinsOfColumns:
    """The pins that have a column: `pins[column]`, as places in a list, -1 where there are fewer than two."""

    pins: Ints

    @classmethod
    def of(cls, problem: Problem, pins: Sequence[Pin]) -> PinsOfColumns:
        """The inverse of a list of pins."""
        found = np.full((len(problem.columns), 2), -1, dtype=np.int64)
        for number, pin in enumerate(pins):
            found[pin.columns, 0 if pin.sub_block == "attention" else 1] = number
        return cls(found)

    def best(self, answers: Ints, values: Ints) -> Iterator[tuple[int, int]]:
        """Each pin that some of the answers have, and the place of the best of those."""
        pins = self.pins[answers].reshape(-1)
        places = np.repeat(np.arange(len(answers)), 2 * answers.shape[1])
        places = places[pins >= 0]
        pins = pins[pins >= 0]
        order = np.lexsort((places, values[places], pins))
        first = np.concatenate([[True], pins[order][1:] != pins[order][:-1]])[: len(order)]
        yield from zip(pins[order[first]].tolist(), places[order[first]].tolist(), strict=True)


def promising(bound: Bound, pins: Sequence[Pin]) -> Ints:
    """The columns of some pins with which a good answer is likeliest: the few of each with the least slack."""
    slack = bound.slack.astype(np.float64)
    return np.unique(np.concatenate([p.columns[np.argsort(slack[p.columns], kind="stable")[:EACH]] for p in pins]))


def exchanged(problem: Problem, bound: Bound, best: Ints, columns: Ints) -> tuple[Ints, Ints]:
    """The best answer with each of some columns that changes at most two more layers of an answer, [answer][layer], and their
    goals; none for a column where no such change meets every row."""
    moves = _Moves.of(problem, bound, best)
    room = problem.limits - problem.matrix[:, best].sum(axis=1)
    layer = problem.columns.layer_of[columns]
    own = best[layer]
    left = room[:, None] - problem.matrix[:, columns] + problem.matrix[:, own]
    found = np.concatenate(
        [
            moves.first_that_fits(left[:, begin : begin + TRIED], layer[begin : begin + TRIED])
            for begin in range(0, len(columns), TRIED)
        ]
        or [np.zeros(0, dtype=np.int64)]
    )
    some = (found >= 0).nonzero()[0]
    answers = np.repeat(best[None], len(some), axis=0)
    rows = np.arange(len(some))
    for changed in moves.columns[::-1, found[some]]:  # a change of nothing comes first
        answers[rows, problem.columns.layer_of[changed]] = changed
    answers[rows, layer[some]] = columns[some]
    return answers, problem.goal.values[answers].sum(axis=1)


@dataclass(slots=True, eq=False)
class _Moves:
    """Changes of up to two layers, by what they add to the goal: `columns[2][move]`, their `layers`, `use[row][move]`."""

    columns: Ints
    layers: Ints
    use: Ints

    @classmethod
    def of(cls, problem: Problem, bound: Bound, best: Ints) -> _Moves:
        slack = bound.slack.astype(np.float64)
        slack[best] = np.inf
        columns = np.argsort(slack, kind="stable")[: min(CHANGES, len(slack) - len(best))]
        columns = np.concatenate([columns, best[:1]])  # the last one changes nothing
        layers = problem.columns.layer_of[columns]
        first, second = np.triu_indices(len(columns), 1)
        nothing = np.array([len(columns) - 1])
        first, second = np.concatenate([first, nothing]), np.concatenate([second, nothing])
        apart = (layers[first] != layers[second]) | (second == len(columns) - 1)
        pairs = np.array([first[apart], second[apart]])
        goals = problem.goal.values[columns] - problem.goal.values[best[layers]]
        order = np.argsort(goals[pairs].sum(axis=0), kind="stable")
        pairs = pairs[:, order]
        use = problem.matrix[:, columns] - problem.matrix[:, best[layers]]
        layers[-1] = -1
        return cls(columns[pairs], layers[pairs], use[:, pairs].sum(axis=1))

    def first_that_fits(self, left: Ints, layer: Ints) -> Ints:
        """The first move that needs no more than `left[row][place]` and leaves `layer[place]` alone; -1 where there is none."""
        found = np.full(len(layer), -1, dtype=np.int64)
        open_ = np.arange(len(layer))
        for begin in range(0, self.columns.shape[1], A_BLOCK):
            part = slice(begin, begin + A_BLOCK)
            fits = (self.layers[:, None, part] != layer[open_, None]).all(axis=0)
            for use, room in zip(self.use, left, strict=True):
                fits &= use[part] <= room[open_, None]
            good = fits.any(axis=1)
            found[open_[good]] = begin + fits[good].argmax(axis=1)
            open_ = open_[~good]
            if not len(open_):
                break
        return found
