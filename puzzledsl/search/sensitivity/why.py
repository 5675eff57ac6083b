"""`pzl why`: regrets of all alternatives, and margins of all requirements; and answers to a search as its requirements change.

The regret of an alternative is the optimum with it fixed minus the optimum. A margin is the change of the optimum when a
requirement's bound moves. Preferences decide which of several optima is shown; they do not enter regrets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import groupby
from typing import Literal

from puzzledsl.base.progress import Progress, Silent
from puzzledsl.ir import nodes
from puzzledsl.ir.search_nodes import written
from puzzledsl.ir.tables import (
    CostTable,
    Margin,
    Move,
    Regret,
    ScoreTable,
    SearchResult,
    SubBlockRegrets,
    WhyResult,
)
from puzzledsl.search.infeasible.explain import Group, groups_of
from puzzledsl.search.problem.instance import INFINITE, Effort
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.problem.problem import Builder
from puzzledsl.search.sensitivity.part import Pin, pins_of
from puzzledsl.search.sensitivity.regrets import Standing, optima_of, standing
from puzzledsl.search.solve import solve_built
from puzzledsl.search.tables import Tables, tables_of

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
    effort, progress = Effort.of(time_s), progress or Silent()
    tables = builder.tables
    root = standing(builder.all(), effort)
    if root.layers is None:
        return _without_child(builder, effort, progress)
    pins = [p for p in pins_of(builder.columns) if layers is None or p.layer in layers]
    progress.start(f"pinning {tables.search.name}", 1)
    problems = builder.all().changed(lambda problem, _: replace(problem, preferences=()))
    optima = optima_of(problems, pins, root, Effort.of(effort.left_s - time_s * (1 - FOR_REGRETS)))
    if not root.settled:  # a pin may have found a better child
        best = min((s for s in (root, *optima) if s.most is not None), key=lambda s: s.most or Fraction(0))
        root = replace(best, least=root.least)
    assert root.layers is not None
    margins = tuple(_margins(builder, root, effort)) if layers is None else ()
    progress.advance(1)
    objective = Child(tables, root.layers, root.batches or {}).linear(tables.search.objective)
    return WhyResult(
        search=tables.search.name,
        sense=tables.search.sense,
        objective=float(objective),
        proven=root.settled,
        negligible=float(abs(objective) * NEGLIGIBLE),
        sub_blocks=tuple(_sub_blocks(root, pins, optima)),
        margins=margins,
    )


def _without_child(builder: Builder, effort: Effort, progress: Progress) -> SearchResult:
    """Solve the search again in the time that is left, to explain why there is no child."""
    search = builder.tables.search
    if isinstance(search.solver, nodes.CpSat):
        left = search.solver.model_copy(update={"time_s": Fraction(max(effort.left_s, 0.0))})
        builder = builder.for_search(search.model_copy(update={"solver": left}))
    return solve_built(builder, progress)


def _margins(builder: Builder, root: Standing, effort: Effort) -> Iterator[Margin]:
    search = builder.tables.search.model_copy(update={"preferences": (), "solutions": 1})
    for group in groups_of(search.requirements):
        requirement = search.requirements[group[0]]
        figures = []
        for kind, by, bound, moved in _moves(search, group):
            if effort.left_s <= 0:
                break
            own = builder.for_requirements(moved).all()
            least, most = difference(standing(own, effort), root)
            figures.append(Move(kind=kind, by=by, bound=bound, at_least=least, at_most=most))
        yield Margin(
            line=requirement.where.line,
            text=written(requirement),
            because=requirement.because,
            moves=tuple(figures),
        )


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


def _sub_blocks(root: Standing, pins: Sequence[Pin], optima: Sequence[Standing]) -> Iterator[SubBlockRegrets]:
    assert root.layers is not None
    pairs = zip(pins, optima, strict=True)
    for (layer, sub_block), group in groupby(pairs, key=lambda pair: (pair[0].layer, pair[0].sub_block)):
        chosen = getattr(root.layers[layer], sub_block)
        regrets = []
        for pin, after in group:
            least, most = difference(root if pin.alternative == chosen else after, root)
            least = None if least is None else max(least, 0.0)
            regrets.append(Regret(alternative=pin.alternative, at_least=least, at_most=most))
        yield SubBlockRegrets(layer=layer, sub_block=sub_block, chosen=chosen, regrets=tuple(regrets))


# ---------------------------------------------------------------- moved bounds


Kind = Literal["tighter", "looser", "up", "down", "without"]


def _moves(search: nodes.Search, group: Group) -> Iterator[tuple[Kind, str, float | None, nodes.Search]]:
    """Yield (kind, size as text, new bound of a single requirement, search) of each move of a statement, and without it."""
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


# ---------------------------------------------------------------- other requirements


class Variations:
    """Solves searches that differ from a declared one in their requirements only. Safe for several threads."""

    def __init__(self, tables: Tables) -> None:
        """Prepare the variations of a search whose inputs are checked."""
        self.builder = Builder(tables)

    def solve(self, requirements: Sequence[nodes.Requirement], time_s: float) -> SearchResult:
        """Find the best child, with its proof or its gap. A conflict is not explained here."""
        return solve_built(self._builder(requirements, time_s), Silent(), explain=False)

    def explain(self, requirements: Sequence[nodes.Requirement], time_s: float) -> SearchResult:
        """Return the result with the conflict and the smallest way out of it, where there is no child."""
        return solve_built(self._builder(requirements, time_s), Silent())

    def why(
        self, requirements: Sequence[nodes.Requirement], layer: int, time_s: float
    ) -> WhyResult | SearchResult:
        """Return the regrets of one layer; the result itself where there is no child."""
        return why_built(self._builder(requirements, time_s), time_s, [layer])

    def _builder(self, requirements: Sequence[nodes.Requirement], time_s: float) -> Builder:
        """Return the builder of the search with other requirements, one solution, and a time limit."""
        search = self.builder.tables.search
        limited = search.solver.model_copy(update={"time_s": Fraction(time_s)})
        changes = {"requirements": tuple(requirements), "solutions": 1, "solver": limited}
        return self.builder.for_requirements(search.model_copy(update=changes))
