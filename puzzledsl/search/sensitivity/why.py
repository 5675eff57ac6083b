"""`pzl why`: regrets of all alternatives, and margins of all requirements.

The regret of an alternative is the optimum with it fixed minus the optimum. A margin is the change of the optimum when a
requirement's bound moves. Preferences decide which of several optima is shown; they do not enter regrets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby

import numpy as np

from puzzledsl.base.progress import Progress, Silent
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.search_nodes import written
from puzzledsl.ir.tables import (
    CostTable,
    LayerAssignment,
    Margin,
    Move,
    Regret,
    ScoreTable,
    SearchResult,
    SubBlockRegrets,
    WhyResult,
)
from puzzledsl.search.answer import checked
from puzzledsl.search.batches.exact import best_meeting_all
from puzzledsl.search.effort import Effort
from puzzledsl.search.portfolio.minimise import Outcome, minimise
from puzzledsl.search.problem.columns import Ints
from puzzledsl.search.problem.instance import INFINITE, Problem
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.problem.problem import Builder, Problems
from puzzledsl.search.sensitivity.margins import moves_of
from puzzledsl.search.sensitivity.pins import Pin, pins_of
from puzzledsl.search.sensitivity.regrets import optima_of
from puzzledsl.search.solve import solve_built
from puzzledsl.search.tables import Tables, tables_of

TIME_S = 60.0
FOR_REGRETS = 0.8  # share of the time for regrets; the rest is for margins
NEGLIGIBLE = Fraction(1, 1000)  # regrets up to this share of the objective are negligible
SLICES_S = (0.5, 4.0, 30.0, 600.0)  # seconds for a pin that is solved on its own, by round


@dataclass(frozen=True, slots=True)
class Standing:
    """Bounds on an optimum, as ranks (less is better): lower bound `least`, and `most`, reached by the child of `layers`.

    Both are None if no child exists; only `most` is None if none was found.
    """

    least: Fraction | None
    most: Fraction | None
    layers: tuple[LayerAssignment, ...] | None = None
    batches: Mapping[str, int] | None = None

    @property
    def settled(self) -> bool:
        """True if the optimum is proven, or that there is no child."""
        return self.least == self.most


NO_CHILD = Standing(None, None)


def why_search(
    program: Program,
    search: str,
    costs: CostTable,
    scores: Mapping[str, ScoreTable],
    *,
    time_s: float = TIME_S,
    layers: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> WhyResult | SearchResult:
    """Compute the regrets of every alternative of `layers`; by default of all layers, and the margins too.

    Return the search's own result if it has no solution. Raises DiagnosticError if a table is missing or incomplete.
    """
    builder = Builder(tables_of(program, search, costs, scores))
    return why_built(builder, time_s, layers, progress)


def why_built(
    builder: Builder, time_s: float, layers: Sequence[int] | None = None, progress: Progress | None = None
) -> WhyResult | SearchResult:
    """Compute regrets, and margins without `layers`, of a builder's search. Its inputs are checked already."""
    progress = progress or Silent()
    why = _Why(builder, Effort.of(time_s), Effort.of(time_s * FOR_REGRETS))
    root = why.optimum()
    if root.layers is None:
        return solve_built(builder, progress)
    return why.result(root, layers, progress)


@dataclass(frozen=True, slots=True)
class _Why:
    builder: Builder
    effort: Effort
    for_regrets: Effort

    @property
    def tables(self) -> Tables:
        """Tables of the search."""
        return self.builder.tables

    def optimum(self) -> Standing:
        """Solve the search itself, with its preferences, as `pzl solve` does."""
        return standing(self.tables, self.builder.all(), self.effort)

    def result(self, root: Standing, layers: Sequence[int] | None, progress: Progress) -> WhyResult:
        """Compute regrets, then margins (only for all layers). `root`: the search's own optimum."""
        problems = self.builder.all().changed(lambda problem, _: replace(problem, preferences=()))
        pins = [p for p in pins_of(self.builder.columns) if layers is None or p.layer in layers]
        progress.start(f"pinning {self.tables.search.name}", 1)
        standings = self._standings(problems, pins)
        root = (
            min(  # if the optimum is not proven, a pin may have found a better child
                (s for s in (root, *standings) if s.most is not None), key=lambda s: s.most or Fraction(0)
            )
            if root.least != root.most
            else root
        )
        assert root.most is not None and root.layers is not None
        margins = tuple(self._margins(root)) if layers is None else ()
        progress.advance(1)
        objective = Child(self.tables, root.layers, root.batches or {}).linear(self.tables.search.objective)
        return WhyResult(
            search=self.tables.search.name,
            sense=self.tables.search.sense,
            objective=float(objective),
            proven=root.settled,
            negligible=float(abs(objective) * NEGLIGIBLE),
            sub_blocks=tuple(_sub_blocks(root, pins, standings)),
            margins=margins,
        )

    def _standings(self, problems: Problems, pins: Sequence[Pin]) -> list[Standing]:
        if all(box.is_single for box in problems.boxes):
            listed = [*problems]
            if all(row.exact for problem in listed for row in problem.rows):
                return _Plain(listed, pins, self.for_regrets).run()
        return self._one_by_one(problems, pins)

    def _one_by_one(self, problems: Problems, pins: Sequence[Pin]) -> list[Standing]:
        """Solve the search with each pin in turn, in rounds with growing time.

        Used if integers are rounded, or a scenario has a profile.
        """
        found = [Standing(-INFINITE, None)] * len(pins)
        for slice_s in SLICES_S:
            for number, pin in enumerate(pins):
                left = self.for_regrets.left_s
                if left > 0 and not found[number].settled:
                    own = pinned(problems, pin)
                    found[number] = standing(self.tables, own, Effort.of(min(slice_s, left)))
        return found

    def _margins(self, root: Standing) -> Iterator[Margin]:
        search = self.tables.search.model_copy(update={"preferences": (), "solutions": 1})
        for group, moves in moves_of(search):
            requirement = search.requirements[group[0]]
            figures = []
            for move, moved in moves:
                if self.effort.left_s <= 0:
                    break
                builder = self.builder.for_requirements(moved)
                after = standing(builder.tables, builder.all(), self.effort)
                least, most = difference(after, root)
                figures.append(
                    Move(kind=move.kind, by=move.by, bound=move.bound, at_least=least, at_most=most)
                )
            yield Margin(
                line=requirement.where.line,
                text=written(requirement),
                because=requirement.because,
                moves=tuple(figures),
            )


def pinned(problems: Problems, pin: Pin) -> Problems:
    """Return the problems with one alternative fixed."""
    return problems.changed(lambda problem, _: problem.only(pin.keep(problem.columns)))


def standing(tables: Tables, problems: Problems, effort: Effort) -> Standing:
    """Solve problems of a search and return the bounds on the optimum; the child is verified."""
    found = best_meeting_all(tables, problems, effort)
    if found.layers is None:
        least = None if found.bound is None else _rank(tables, found.bound)
        return NO_CHILD if found.proven else Standing(-INFINITE if least is None else least, None)
    checked(tables, found)
    most = _rank(tables, Child(tables, found.layers, found.batches).linear(tables.search.objective))
    least = (
        most if found.proven else -INFINITE if found.bound is None else min(most, _rank(tables, found.bound))
    )
    return Standing(least, most, found.layers, found.batches)


def _rank(tables: Tables, value: Fraction) -> Fraction:
    """Return an objective's value as a rank: negated if it is maximised, so that less is better."""
    return -value if tables.search.sense == "maximize" else value


def difference(after: Standing, root: Standing) -> tuple[float | None, float | None]:
    """Return (lower, upper) bounds on the loss of one optimum against another.

    Both are None if there is no child; the upper bound is None if none was found.
    """
    if after.least is None:
        return None, None
    assert root.least is not None and root.most is not None
    most = None if after.most is None else after.most - root.least
    return _figure(after.least - root.most), None if most is None else _figure(most)


def _figure(value: Fraction) -> float | None:
    """Return a difference of ranks as a float; None if it is infinite."""
    return None if value >= INFINITE / 2 else float(max(value, -INFINITE / 10**200))


def _sub_blocks(
    root: Standing, pins: Sequence[Pin], standings: Sequence[Standing]
) -> Iterator[SubBlockRegrets]:
    assert root.layers is not None
    pairs = zip(pins, standings, strict=True)
    for (layer, sub_block), group in groupby(pairs, key=lambda pair: (pair[0].layer, pair[0].sub_block)):
        chosen = getattr(root.layers[layer], sub_block)
        regrets = []
        for pin, after in group:
            least, most = difference(root if pin.alternative == chosen else after, root)
            least = None if least is None else max(least, 0.0)
            regrets.append(Regret(alternative=pin.alternative, at_least=least, at_most=most))
        yield SubBlockRegrets(layer=layer, sub_block=sub_block, chosen=chosen, regrets=tuple(regrets))


# ---------------------------------------------------------------- objectives that are sums over layers


@dataclass(slots=True)
class _Plain:
    """Optimum with each pin over several problems, one for each combination of batches."""

    problems: Sequence[Problem]
    pins: Sequence[Pin]
    effort: Effort

    def run(self) -> list[Standing]:
        """Solve the problems, most promising first; in later ones only better answers are of interest."""
        found = [NO_CHILD] * len(self.pins)
        roots = [(problem, minimise(problem, self.effort, canonical=False)) for problem in self.problems]
        for problem, outcome in sorted(roots, key=lambda root: _promise(*root)):
            if outcome.infeasible:
                continue
            if outcome.chosen is None or outcome.value is None:
                least = -INFINITE if outcome.bound is None else problem.goal.rank(outcome.bound)
                found = [_best(old, Standing(least, None)) for old in found]
            else:
                floor = outcome.value if outcome.bound is None else min(outcome.bound, outcome.value)
                floor = outcome.value if outcome.proven else floor
                found = self._after(problem, outcome.chosen, floor, found)
        return found

    def _after(self, problem: Problem, best: Ints, floor: int, found: list[Standing]) -> list[Standing]:
        """Return the optima over the problems so far and one more."""
        known: dict[Fraction | None, int] = {}
        for old in found:
            if old.most not in known:
                known[old.most] = _largest_below(problem, old.most)
        at_most = np.array([known[old.most] for old in found])
        optima = optima_of(problem, self.pins, best, floor, self.effort, at_most)
        after = []
        for number, old in enumerate(found):
            new = NO_CHILD
            if not optima.none[number]:
                new = Standing(problem.goal.rank(int(optima.lower[number])), None)
            if optima.found[number] and not optima.none[number]:
                layers = problem.choice(optima.chosen[number])
                new = replace(
                    new,
                    most=problem.goal.rank(int(optima.upper[number])),
                    layers=layers,
                    batches=problem.batches,
                )
            after.append(_best(old, new))
        return after


def _promise(problem: Problem, outcome: Outcome) -> Fraction:
    return INFINITE if outcome.value is None else problem.goal.rank(outcome.value)


def _best(old: Standing, new: Standing) -> Standing:
    """Combine the bounds on the optima of two sets of problems."""
    if old.least is None or new.least is None:
        return new if old.least is None else old
    better = new if old.most is None or (new.most is not None and new.most < old.most) else old
    return replace(better, least=min(old.least, new.least))


def _largest_below(problem: Problem, rank: Fraction | None) -> int:
    """Return the largest sum of a problem whose rank is below `rank`; without a rank, the largest possible sum."""
    low = int(problem.columns.least(problem.goal.values).sum()) - 1
    high = int(problem.columns.most(problem.goal.values).sum())
    if rank is None:
        return high
    while low < high:
        middle = -(-(low + high) // 2)
        if problem.goal.rank(middle) < rank:
            low = middle
        else:
            high = middle - 1
    return low
