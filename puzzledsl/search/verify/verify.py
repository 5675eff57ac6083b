"""Independent verification of a solution. Its evaluation of a child (`verify.model`) shares only data types with the solver."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from puzzledsl.ir import nodes
from puzzledsl.ir.references import places_of
from puzzledsl.ir.tables import CostTable, EndsAssignment, LayerAssignment, ScoreTable, Solution
from puzzledsl.search.verify.model import Model


@dataclass(frozen=True, slots=True)
class Violation:
    """One mistake in a solution."""

    kind: Literal["shape", "choice", "batch", "requirement", "objective", "metric", "sum"]
    message: str


def verify(
    program: nodes.Program,
    search: nodes.Search,
    costs: CostTable,
    scores: Mapping[str, ScoreTable],
    solution: Solution,
    claimed: Fraction | None = None,
) -> list[Violation]:
    """Return all mistakes in a solution: choices outside the space, violated requirements, metrics that differ from the tables.

    Empty if it is right. `claimed`: the objective's value by the solver's integer sum, unless its integers are rounded. The
    tables are complete.
    """
    space = program.spaces[search.space]
    chosen = tuple(choice for choice in solution.layers if isinstance(choice, LayerAssignment))
    ends = [c for c in solution.layers[len(chosen) :] if isinstance(c, EndsAssignment)]
    if len(chosen) != len(space.layers):
        return [Violation("shape", f"{len(chosen)} layers instead of {len(space.layers)}")]
    if len(ends) != (space.ends is not None):
        return [Violation("shape", f"{len(ends)} choices of the ends of the model")]
    model = Model(program, costs, scores, chosen, solution.batches, *ends)
    mentioned = places_of(search)
    if wrong := [*_choices(model, search, mentioned)]:
        return wrong
    batches = {  # the model's, else the largest that fits, else the smallest listed
        name: model.batches[name] if name in mentioned else model.largest_batch(name) or listed[0].batch
        for name, listed in costs.scenarios.items()
        if listed
    }
    model = replace(model, batches=batches)
    small = [
        Violation("batch", f"batch {batches[name]} of scenario {name} is not the largest that fits")
        for name in mentioned
        if costs.scenarios[name][0].is_own and batches[name] != model.largest_batch(name)
    ]
    broken = [
        Violation("requirement", f"requirement {number} `{requirement.where.text}` does not hold")
        for number, requirement in enumerate(search.requirements, start=1)
        if not model.meets(requirement)
    ]
    return [*small, *broken, *_figures(model, search, solution, claimed)]


def _choices(model: Model, search: nodes.Search, mentioned: Iterable[str]) -> Iterator[Violation]:
    """Yield a violation for each choice outside the space, and each batch that a mentioned scenario does not have."""
    space = model.program.spaces[search.space]
    if space.ends is not None:
        for name, known in ((model.ends.embedding, space.ends.embedding), (model.ends.head, space.ends.head)):
            if name not in (end.name for end in known):
                yield Violation("choice", f"the ends may not be {name}")
    for index, (chosen, offered) in enumerate(zip(model.layers, space.layers, strict=True)):
        for part in ("attention", "ffn"):
            if getattr(chosen, part) not in (a.name for a in getattr(offered, part)):
                yield Violation("choice", f"layer {index} may not have {part} {getattr(chosen, part)}")
    for name in mentioned:
        batch, most = model.batches.get(name, None), model.costs.auto.get(name)
        listed = {costs.batch for costs in model.costs.scenarios[name]}
        if batch is None or (batch not in listed if most is None else not 1 <= batch <= most):
            yield Violation("batch", f"scenario {name} has no batch {batch}")


def _figures(
    model: Model, search: nodes.Search, solution: Solution, claimed: Fraction | None
) -> Iterator[Violation]:
    exact = model.value(search.objective)
    if claimed is not None and claimed != exact:
        yield Violation("sum", f"the solver's sum is {float(claimed)!r}, the objective is {float(exact)!r}")
    if float(exact) != solution.objective:
        yield Violation("objective", f"the objective is {float(exact)!r}, not {solution.objective!r}")
    if model.batches != solution.batches:
        yield Violation("batch", f"the batches are {model.batches}, not {solution.batches}")
    exacts = {"params": model.params, **model.totals}
    for scenario, found in model.metrics.items():
        left_out = ("batch", *model.costs.scenarios[scenario][0].unknown)
        head = scenario.partition("@")[0]
        exacts |= {f"{head}.{name}": value for name, value in found.items() if name not in left_out}
    metrics = {name: float(value) for name, value in exacts.items()}
    for name in sorted(metrics.keys() | solution.metrics.keys()):
        if metrics.get(name) != solution.metrics.get(name):
            yield Violation("metric", f"{name} is {metrics.get(name)!r}, not {solution.metrics.get(name)!r}")
