"""Answers to variations of one search: its requirements change, its space, objective and tables stay, and so its coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from puzzledsl.base.progress import Silent
from puzzledsl.ir.nodes import CpSat, LinearRequirement, Requirement
from puzzledsl.ir.tables import SearchResult, WhyResult
from puzzledsl.search.problem.box import Box
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.problem.problem import Builder, goal_of
from puzzledsl.search.sensitivity.why import why_built
from puzzledsl.search.solve import solve_built
from puzzledsl.search.tables import Tables


class Variations:
    """Solves searches that differ from a declared one in their requirements only. Safe for several threads."""

    def __init__(self, tables: Tables) -> None:
        """Prepare the variations of a search whose inputs are checked."""
        self.builder = Builder(tables)

    def solve(self, requirements: Sequence[Requirement], time_s: float) -> SearchResult:
        """Find the best child, with its proof or its gap. A conflict is not explained here."""
        return solve_built(self._builder(requirements, time_s), Silent(), explain=False)

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
