"""Answers to variations of one search: its requirements change, its space, objective and tables stay.

One builder keeps the coefficients. Proofs carry over: where a search with weaker requirements is solved, and its optimum meets
the stronger ones, it is the optimum there, too; where the weaker have no child, the stronger have none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from threading import Lock

from puzzledsl.base.progress import Silent
from puzzledsl.ir.logic import compared
from puzzledsl.ir.nodes import CpSat, LinearRequirement, LogicRequirement, Requirement
from puzzledsl.ir.tables import SearchResult, WhyResult
from puzzledsl.search.needs import is_amount
from puzzledsl.search.problem.box import Box
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.problem.problem import Builder, goal_of
from puzzledsl.search.sensitivity.why import why_built
from puzzledsl.search.solve import solve_built
from puzzledsl.search.tables import Tables

REMEMBERED = 256
Limits = Mapping[Hashable, Fraction]


@dataclass(frozen=True, slots=True)
class Known:
    """A proven result: its requirements by what they limit, its scenarios, and figures of its child that were asked for."""

    limits: Limits
    scenarios: tuple[str, ...]
    result: SearchResult
    figures: dict[Hashable, tuple[Fraction, Fraction]] = field(default_factory=dict)

    def meets(self, tables: Tables, requirement: Requirement) -> bool:
        """True if the child meets a requirement."""
        solution = self.result.solutions[0]
        key = requirement.formula if isinstance(requirement, LogicRequirement) else requirement.left
        if key not in self.figures:
            child = Child(tables, solution.layers, solution.batches)
            if isinstance(requirement, LogicRequirement):
                self.figures[key] = Fraction(child.meets(requirement)), Fraction(1)
            else:
                self.figures[key] = child.linear(requirement.left), child.parent().linear(requirement.left)
        value, parent = self.figures[key]
        if isinstance(requirement, LogicRequirement):
            return value == parent
        bound = requirement.limit * (1 if requirement.parent_ratio is None else parent)
        return bool(compared((value, value), requirement.op, bound))


class Variations:
    """Solves searches that differ from a declared one in their requirements only. Safe for several threads."""

    def __init__(self, tables: Tables) -> None:
        """Prepare the variations of a search whose inputs are checked."""
        self.builder = Builder(tables)
        self._known: deque[Known] = deque(maxlen=REMEMBERED)
        self._lock = Lock()

    def solve(self, requirements: Sequence[Requirement], time_s: float) -> SearchResult:
        """Find the best child, with its proof or its gap. A conflict is not explained here."""
        builder = self._builder(requirements, time_s)
        limits = limits_of(requirements)
        if (settled := self._settled(builder, limits)) is not None:
            return settled
        result = solve_built(builder, Silent(), explain=False)
        if result.status in ("optimal", "infeasible"):
            with self._lock:
                self._known.appendleft(Known(limits, builder.tables.scenarios, result))
        return result

    def explain(self, requirements: Sequence[Requirement], time_s: float) -> SearchResult:
        """Return the result with the conflict and the smallest way out of it, where there is no child."""
        return solve_built(self._builder(requirements, time_s), Silent())

    def why(self, requirements: Sequence[Requirement], layer: int, time_s: float) -> WhyResult | SearchResult:
        """Return the regrets of one layer; the result itself where there is no child."""
        return why_built(self._builder(requirements, time_s), time_s, [layer])

    def extent(self, requirement: LinearRequirement) -> tuple[Fraction, Fraction]:
        """Least and greatest value of a left side, in base units or times the parent's. Raises ValueError if that is 0."""
        builder, left, found = self.builder, requirement.left, list[Fraction]()
        corners = [Box(box.scenarios, end, end) for box in builder.all().boxes for end in (box.low, box.high)]
        for corner in dict.fromkeys(corners):
            goals = goal_of(builder, left, "minimize", corner), goal_of(builder, left, "maximize", corner)
            ends = [goal.in_units(int(builder.columns.least(goal.values).sum())) for goal in goals]
            parent = Fraction(1)
            if requirement.parent_ratio is not None:
                parent = Child(builder.tables, builder.tables.parent, corner.lows).linear(left)
            found += [end / parent for end in ends if end is not None and parent]
        if not found:
            raise ValueError("the parent's value is 0, and nothing is a multiple of it")
        return min(found), max(found)

    def _builder(self, requirements: Sequence[Requirement], time_s: float) -> Builder:
        """Return the builder of the search with other requirements, one solution, and a time limit."""
        search = self.builder.tables.search
        assert isinstance(search.solver, CpSat), "a heuristic proves nothing"
        limited = search.solver.model_copy(update={"time_s": Fraction(time_s)})
        changes = {"requirements": tuple(requirements), "solutions": 1, "solver": limited}
        return self.builder.for_requirements(search.model_copy(update=changes))

    def _settled(self, builder: Builder, limits: Limits) -> SearchResult | None:
        """Return a proven result of weaker requirements that holds for these, too."""
        tables = builder.tables
        with self._lock:
            remembered = tuple(self._known)
        for known in remembered:
            if not all(key in limits and limits[key] <= limit for key, limit in known.limits.items()):
                continue
            if known.result.status == "infeasible":
                return known.result
            same = known.scenarios == tables.scenarios
            if same and all(known.meets(tables, each) for each in tables.search.requirements):
                return known.result
        return None


def limits_of(requirements: Sequence[Requirement]) -> Limits:
    """Return the limit on each quantity that requirements limit; a smaller limit is the stronger requirement."""
    limits: dict[Hashable, Fraction] = {}
    for requirement in requirements:
        key, limit = _limit(requirement)
        limits[key] = min(limit, limits.get(key, limit))
    return limits


def _limit(requirement: Requirement) -> tuple[Hashable, Fraction]:
    if isinstance(requirement, LogicRequirement):
        return requirement.formula, Fraction(0)
    left, op, ratio, limit = requirement.left, requirement.op, requirement.parent_ratio, requirement.limit
    # of a negative value of the parent, a larger ratio is a smaller bound
    if op == "==" or (ratio is not None and not is_amount(left)):
        return (left, op, ratio is None, limit), Fraction(0)
    return (left, op, ratio is None), limit if op in ("<=", "<") else -limit
