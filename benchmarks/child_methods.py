"""Ways to choose a child for a speed-up: today's search, its rivals, and rivals combined with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from puzzledsl.ir.nodes import And, Baseline, BaselineKind, Is, LogicRequirement, Program, Search
from puzzledsl.ir.solvers import influence_score
from puzzledsl.ir.tables import CostTable, ScoreTable, SearchResult
from puzzledsl.search.solve import solve_search

SEARCH = "best"


@dataclass(frozen=True)
class Question:
    """A program whose search `best` asks for a speed-up, and the tables that it reads."""

    program: Program
    costs: CostTable
    scores: Mapping[str, ScoreTable]

    @property
    def search(self) -> Search:
        """The search as the program has it."""
        return self.program.searches[SEARCH]

    def solved(self, **changes: object) -> SearchResult:
        """The answer to the search with some things changed."""
        changed = self.search.model_copy(update=changes)
        program = self.program.model_copy(update={"searches": {**self.program.searches, SEARCH: changed}})
        return solve_search(program, SEARCH, self.costs, self.scores)


Method = Callable[[Question], SearchResult]


def searched(question: Question) -> SearchResult:
    """The program's own search."""
    return question.solved()


def baseline(kind: BaselineKind) -> Method:
    """A baseline under the same requirements."""
    return lambda question: question.solved(solver=Baseline(kind=kind))


def drops_then_searched(kind: BaselineKind, count: int) -> Method:
    """So many layers dropped as a baseline does it, or as few as meet the requirements; the rest searched."""

    def method(question: Question) -> SearchResult:
        alone = question.solved(solver=Baseline(kind=kind))
        enough = len(_dropped(alone)) if alone.solutions else count
        fixed = tuple(
            _dropping(layer, question.search) for layer in _first(kind, question, min(count, enough))
        )
        return question.solved(requirements=(*question.search.requirements, *fixed))

    return method


def _dropped(result: SearchResult) -> list[int]:
    layers = result.solutions[0].layers
    return [i for i, c in enumerate(layers) if (c.attention, c.ffn) == ("noop", "noop")]


def _first(kind: BaselineKind, question: Question, count: int) -> list[int]:
    """The layers that a baseline drops first."""
    name = influence_score(question.program, question.search)
    influence = None if name is None else question.scores[name].influence
    assert influence is not None, "`pzl score` measures it"
    if kind == "block_influence":
        values = influence.layers
        return sorted(range(len(values)), key=lambda i: (values[i], i))[:count]
    if count == 0:
        return []
    distances = influence.runs[count - 1]
    start = min(range(len(distances)), key=lambda i: (distances[i], i))
    return list(range(start, start + count))


def _dropping(layer: int, search: Search) -> LogicRequirement:
    """`require layers[i] is noop`."""
    attention, ffn = (
        Is(layer=layer, sub_block=part, alternatives=("noop",)) for part in ("attention", "ffn")
    )
    return LogicRequirement(formula=And(operands=(attention, ffn)), where=search.where)


METHODS: dict[str, Method] = {
    "searched": searched,
    "block_influence": baseline("block_influence"),
    "angular_run": baseline("angular_run"),
    "uniform_width": baseline("uniform_width"),
    "uniform": baseline("uniform"),
    "greedy": baseline("greedy"),
    "noop_only": baseline("noop_only"),
}
COMBINED: dict[str, BaselineKind] = {"drop": "block_influence", "run": "angular_run"}


def parse(name: str) -> Method | None:
    """A method by its name: one of METHODS, `dropN+searched` or `runN+searched`; None for no method."""
    if (match := re.fullmatch(r"(drop|run)(\d+)\+searched", name)) is not None:
        return drops_then_searched(COMBINED[match[1]], int(match[2]))
    return METHODS.get(name)


def known() -> str:
    """All names of methods."""
    return ", ".join([*METHODS, *(f"{word}N+searched" for word in COMBINED)])
