"""`pzl why`: regrets of all alternatives, and margins of all requirements.

The regret of an alternative is the optimum with it fixed (pinned in one sub-block of one layer) minus the optimum. A margin is
the change of the optimum when a requirement's bound moves. Preferences decide which of several optima is shown; they do not
enter regrets. The optimum without pins and the slack of the Lagrangian bound are lower bounds of every pin; each answer is an
upper bound of all the pins that it has. If rows are the only constraints, many pins are solved at once; then one after another:
nearest bounds first, in rounds with more time for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, groupby
from typing import Literal

import numpy as np

from puzzledsl.ir import nodes
from puzzledsl.ir.search_nodes import written
from puzzledsl.ir.tables import answers
from puzzledsl.ir.tables.summed import CostTable, ScoreTable
from puzzledsl.search.answer import best_meeting_all, checked
from puzzledsl.search.infeasible.explain import Group, groups_of
from puzzledsl.search.problem.diagram import NEVER
from puzzledsl.search.problem.instance import INFINITE, Effort, Problem, presolve
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.problem.problem import Builder, Problems
from puzzledsl.search.sensitivity.part import Part, Pin, cases_of, pins_of
from puzzledsl.search.solve import solve_built
from puzzledsl.search.tables import tables_of

SLICES_S = (0.5, 4.0, 30.0, 600.0)  # seconds for a pin, by round


@dataclass(frozen=True, slots=True)
class Standing:
    """Bounds on an optimum, as ranks (less is better): lower bound `least`, and `most`, reached by the child of `layers`.

    Both are None if no child exists; only `most` is None if none was found.
    """

    least: Fraction | None
    most: Fraction | None
    layers: tuple[answers.Assignment, ...] | None = None
    batches: Mapping[str, int] | None = None

    @property
    def settled(self) -> bool:
        """True if the optimum is proven, or it is proven that there is no child."""
        return self.least == self.most

    def and_also(self, new: Standing) -> Standing:
        """Return the combined bounds of two searches for the same optimum, with the better of their children."""
        if self.least is None or new.least is None:
            return self if self.least is None else new
        better = new if self.most is None or (new.most is not None and new.most < self.most) else self
        return replace(better, least=max(self.least, new.least))


NO_CHILD = Standing(None, None)
UNKNOWN = Standing(-INFINITE, None)


def standing(problems: Problems, effort: Effort) -> Standing:
    """Solve problems of a search and return the bounds on the optimum; the child is verified."""
    found, tables = best_meeting_all(problems, effort), problems.tables
    sign = -1 if tables.search.sense == "maximize" else 1
    least = -INFINITE if found.bound is None else sign * found.bound
    if found.layers is None:
        return NO_CHILD if found.proven else Standing(least, None)
    checked(tables, found)
    most = sign * Child(tables, found.layers, found.batches).linear(tables.search.objective)
    return Standing(most if found.proven else min(most, least), most, found.layers, found.batches)


def pinned(problems: Problems, pin: Pin) -> Problems:
    """Return the problems with one alternative fixed."""
    return problems.changed(lambda problem, _: problem.only(pin.keep(problem.columns)))


def optima_of(problems: Problems, pins: Sequence[Pin], root: Standing, effort: Effort) -> list[Standing]:
    """Return bounds on the optimum with each pin, in order. `problems`: without preferences. `root`: bounds without pins."""
    if all(box.is_single for box in problems.boxes):
        listed = [*problems]
        if all(row.exact for problem in listed for row in problem.rows):
            return Pinned(listed, pins, root, effort).run()
    found = [UNKNOWN] * len(pins)
    for number, slice_s in _turns(found, effort):
        own = Effort.of(min(slice_s, effort.left_s))
        found[number] = found[number].and_also(standing(pinned(problems, pins[number]), own))
    return found


def _turns(found: Sequence[Standing], effort: Effort) -> Iterator[tuple[int, float]]:
    """Yield the number of each pin that is not settled and the seconds it gets, in rounds, those with near bounds first."""

    def width(number: int) -> Fraction:
        now = found[number]
        return INFINITE if now.most is None or now.least is None else now.most - now.least

    for slice_s in SLICES_S:
        for number in sorted(range(len(found)), key=width):
            if effort.left_s <= 0:
                return
            if not found[number].settled:
                yield number, slice_s


class Pinned:
    """Optima with each pin over several problems with exact integers, one for each combination of batches."""

    def __init__(self, listed: list[Problem], pins: Sequence[Pin], root: Standing, effort: Effort) -> None:
        self.pins, self.root, self.effort = pins, root, effort
        self.found = [UNKNOWN] * len(pins)
        solved = (presolve(problem, deadline=effort.deadline) for problem in listed)
        problems = chain.from_iterable(cases_of(each.problem) for each in solved if each is not None)
        self.parts = [Part(problem, pins, effort.deadline) for problem in problems]

    def run(self) -> list[Standing]:
        """Return the bounds for each pin: use the optimum without pins, settle many at once, then solve one after another."""
        for part in self.parts:
            best = None if self.root.layers is None else part.problem.indices(self.root.layers)
            if best is None or dict(part.problem.batches) != dict(self.root.batches or {}):
                continue
            part.share(best)
            if self.root.settled:
                value = part.problem.goal.of(best)
                part.gaps.append(value - part.bound.value)
                part.lower = np.maximum(part.lower, value)
        alone = len(self.parts) == 1 and self.parts[0].free  # then few pins are left for cheap answers
        for part in () if alone else self.parts:
            part.cheapest_with(self.effort)
        self._settle(range(len(self.pins)))
        for part in self.parts:
            below = [part.problem.largest_below(each.most) for each in self.found]
            part.most = np.minimum(part.most, below)
            part.together(self.effort)
            if alone:
                part.cheapest_with(self.effort)
            self._settle(range(len(self.pins)))
        for number, slice_s in _turns(self.found, self.effort):
            end = Effort.of(min(slice_s, self.effort.left_s)).deadline
            for part in self.parts:
                at_most = part.problem.largest_below(self.found[number].most)
                part.solve(number, at_most, replace(self.effort, gap=0.0, deadline=end))
            self._settle([number])
        for part in self.parts:
            part.verify()
        self._settle(range(len(self.pins)))
        return self.found

    def _settle(self, numbers: Sequence[int]) -> None:
        """Update `found` for pins `numbers` from the bounds and answers of all problems and the lower bound without pins."""
        at_best = -INFINITE if self.root.least is None else self.root.least
        for number in numbers:
            least, now = list[Fraction](), UNKNOWN
            for part in self.parts:
                goal, upper = part.problem.goal, int(part.upper[number])
                if upper < NEVER and (now.most is None or goal.rank(upper) < now.most):
                    layers = part.problem.choice(part.chosen[number])
                    now = Standing(now.least, goal.rank(upper), layers, part.problem.batches)
                if not part.none[number]:
                    least.append(goal.rank(int(part.lower[number])))
            least += [] if now.most is None else [now.most]
            self.found[number] = replace(now, least=max(at_best, min(least))) if least else NO_CHILD


TIME_S = 60.0
FOR_REGRETS = 0.8  # share of the time for regrets; the rest is for margins
NEGLIGIBLE = Fraction(1, 1000)  # regrets up to this share of the objective are negligible
SHARE = Fraction(1, 100)  # of a bound, by which it moves for a margin


def why_search(
    program: nodes.Program,
    search: str,
    costs: CostTable,
    scores: Mapping[str, ScoreTable],
    *,
    time_s: float = TIME_S,
    layers: Sequence[int] | None = None,
) -> answers.WhyResult | answers.SearchResult:
    """Compute the regrets of every alternative of `layers`; by default of all layers, and the margins too.

    Return the search's own result if it has no solution. Raises DiagnosticError if a table is missing or incomplete.
    """
    return why_built(Builder(tables_of(program, search, costs, scores)), time_s, layers)


def why_built(
    builder: Builder, time_s: float, layers: Sequence[int] | None = None
) -> answers.WhyResult | answers.SearchResult:
    """Compute regrets, and margins without `layers`, of a builder's search. Its inputs are checked already."""
    effort, tables = Effort.of(time_s), builder.tables
    root = standing(builder.all(), effort)
    if root.layers is None:  # solved again in the time that is left, to explain why
        solver = tables.search.solver.model_copy(update={"time_s": Fraction(max(effort.left_s, 0.0))})
        return solve_built(builder.for_search(tables.search.model_copy(update={"solver": solver})))
    pins = [p for p in pins_of(builder.columns) if layers is None or p.layer in layers]
    problems = builder.all().changed(lambda problem, _: replace(problem, preferences=()))
    optima = optima_of(problems, pins, root, Effort.of(effort.left_s - time_s * (1 - FOR_REGRETS)))
    if not root.settled:  # a pin may have found a better child
        best = min((s for s in (root, *optima) if s.most is not None), key=lambda s: s.most or Fraction(0))
        root = replace(best, least=root.least)
    assert root.layers is not None
    margins = tuple(_margins(builder, root, effort)) if layers is None else ()
    objective = Child(tables, root.layers, root.batches or {}).linear(tables.search.objective)
    return answers.WhyResult(
        search=tables.search.name,
        sense=tables.search.sense,
        objective=float(objective),
        proven=root.settled,
        negligible=float(abs(objective) * NEGLIGIBLE),
        sub_blocks=tuple(_sub_blocks(root, pins, optima)),
        margins=margins,
    )


def _margins(builder: Builder, root: Standing, effort: Effort) -> Iterator[answers.Margin]:
    search = builder.tables.search.model_copy(update={"preferences": (), "solutions": 1})
    for group in groups_of(search.requirements):
        requirement = search.requirements[group[0]]
        figures = []
        for kind, by, bound, moved in _moves(search, group):
            if effort.left_s <= 0:
                break
            own = builder.for_requirements(moved).all()
            least, most = difference(standing(own, effort), root)
            figures.append(answers.Move(kind=kind, by=by, bound=bound, at_least=least, at_most=most))
        line, text, because = requirement.where.line, written(requirement), requirement.because
        yield answers.Margin(line=line, text=text, because=because, moves=tuple(figures))


def difference(after: Standing, root: Standing) -> tuple[float | None, float | None]:
    """Return (lower, upper) bounds on how much worse the optimum `after` a change is than `root`, in the objective's units.

    Both are None if there is no child; the upper bound is None if none was found. A bound of +infinity is None, too.
    """
    if after.least is None:
        return None, None
    assert root.least is not None and root.most is not None
    most = None if after.most is None else after.most - root.least
    return _figure(after.least - root.most), None if most is None else _figure(most)


def _figure(value: Fraction) -> float | None:
    """Return a difference of ranks as a float; None if it is plus infinity, a huge negative number if minus."""
    return None if value >= INFINITE / 2 else float(max(value, -INFINITE / 10**200))


def _sub_blocks(
    root: Standing, pins: Sequence[Pin], optima: Sequence[Standing]
) -> Iterator[answers.SubBlockRegrets]:
    assert root.layers is not None
    pairs = zip(pins, optima, strict=True)
    for (layer, sub_block), group in groupby(pairs, key=lambda pair: (pair[0].layer, pair[0].sub_block)):
        chosen = getattr(root.layers[layer], sub_block)
        regrets = []
        for pin, after in group:
            least, most = difference(root if pin.alternative == chosen else after, root)
            least = None if least is None else max(least, 0.0)
            regrets.append(answers.Regret(alternative=pin.alternative, at_least=least, at_most=most))
        yield answers.SubBlockRegrets(layer=layer, sub_block=sub_block, chosen=chosen, regrets=tuple(regrets))


Kind = Literal["tighter", "looser", "up", "down", "without"]


def _moves(search: nodes.Search, group: Group) -> Iterator[tuple[Kind, str, float | None, nodes.Search]]:
    """Yield (kind, size as text, bound, search) of each move of a statement, then of its drop; bound None unless one moves."""
    own = [search.requirements[place] for place in group]
    linear = [requirement for requirement in own if isinstance(requirement, nodes.LinearRequirement)]
    if len(linear) == len(own) and all(r.limit or _counts(r) for r in linear):
        by = "1" if all(map(_counts, linear)) else f"{float(SHARE * 100):g} %"
        ways: tuple[tuple[Kind, int], ...] = (("tighter", -1), ("looser", 1))
        if any(requirement.op == "==" for requirement in linear):
            ways = (("up", 1), ("down", -1))
        for kind, sign in ways:
            moved = [_moved(requirement, sign) for requirement in linear]
            bound = float(moved[0].limit) if len(moved) == 1 else None
            yield kind, by, bound, _with(search, group, moved)
    dropped = [nodes.LogicRequirement(formula=nodes.And(operands=()), where=r.where) for r in own]
    yield "without", "", None, _with(search, group, dropped)


def _counts(requirement: nodes.LinearRequirement) -> bool:
    """True if a requirement counts layers, so that its bound moves by one."""
    terms = requirement.left.terms
    return requirement.parent_ratio is None and all(isinstance(w.term, nodes.CountTerm) for w in terms)


def _moved(requirement: nodes.LinearRequirement, sign: int) -> nodes.LinearRequirement:
    """Return the requirement with a looser bound for a positive sign, a tighter one for a negative; "==" moves up or down."""
    step = Fraction(1) if _counts(requirement) else abs(requirement.limit) * SHARE
    if requirement.op in (">=", ">"):
        sign = -sign
    field = "bound" if requirement.parent_ratio is None else "parent_ratio"
    return requirement.model_copy(update={field: requirement.limit + sign * step})


def _with(search: nodes.Search, group: Group, moved: Sequence[nodes.Requirement]) -> nodes.Search:
    requirements: list[nodes.Requirement] = list(search.requirements)
    for place, requirement in zip(group, moved, strict=True):
        requirements[place] = requirement
    return search.model_copy(update={"requirements": tuple(requirements)})
