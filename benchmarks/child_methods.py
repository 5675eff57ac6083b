"""Ways to choose a child for a speed-up: a search's optimum, the best of measured children, and rivals."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from puzzledsl.ir.nodes import (
    And,
    Baseline,
    BaselineKind,
    Is,
    LinearRequirement,
    LogicRequirement,
    MetricTerm,
    Program,
    Refine,
    ScoreTerm,
    Search,
)
from puzzledsl.ir.references import influence_score
from puzzledsl.ir.tables import CostTable, ScoreTable, SearchResult
from puzzledsl.search.solve import solve_search

SEARCH = "best"
HEALED, SAMPLES = 4096, 2048
"""Tokens that measured children are healed on, and positions at which they are compared with the parent."""


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

    @property
    def score(self) -> str:
        """The score that the search minimises."""
        terms = (weighted.term for weighted in self.search.objective.terms)
        return next(term.score for term in terms if isinstance(term, ScoreTerm))

    @property
    def speed(self) -> str:
        """The metric that the first requirement on a throughput bounds: `chat.throughput`."""
        bounded = (r for r in self.search.requirements if isinstance(r, LinearRequirement))
        terms = (weighted.term for requirement in bounded for weighted in requirement.left.terms)
        return next(
            f"{term.scenario}.throughput"
            for term in terms
            if isinstance(term, MetricTerm) and term.metric == "throughput"
        )

    def changed(self, **changes: object) -> Program:
        """The program with some things of the search changed."""
        search = self.search.model_copy(update=changes)
        return self.program.model_copy(update={"searches": {**self.program.searches, SEARCH: search}})

    def solved(self, **changes: object) -> SearchResult:
        """The answer to the search with some things changed."""
        return solve_search(self.changed(**changes), SEARCH, self.costs, self.scores)


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


@dataclass(frozen=True)
class Refined:
    """The best of so many measured children, each healed on so many tokens (0: none is).

    `start`: the rule whose child is the first; None: the optimum of the scores.
    """

    method: Literal["measured", "evolutionary"]
    children: int
    healed: int
    start: BaselineKind | None = None

    def first(self, question: Question) -> SearchResult:
        """The child to start from."""
        if self.start is None:
            return question.solved()
        return question.solved(solver=Baseline(kind=self.start))

    def program(self, question: Question) -> Program:
        """The program with its search refined so, on the text that its score is measured on."""
        refine = Refine(
            method=self.method,
            children=self.children,
            healed=self.healed,
            samples=SAMPLES,
            where=question.search.where,
        )
        return question.changed(refine=refine)


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
REFINED: dict[str, tuple[Literal["measured", "evolutionary"], int, BaselineKind | None]] = {
    "refined": ("measured", HEALED, None),
    "refined_plain": ("measured", 0, None),
    "evolved": ("evolutionary", HEALED, None),
    "evolved_plain": ("evolutionary", 0, None),
    "evopress": ("evolutionary", HEALED, "block_influence"),
    "evouniform": ("evolutionary", HEALED, "uniform"),
}
"""Sources of children, tokens that they are healed on, and where they start. `evopress` knows no scores."""


def parse(name: str) -> Method | Refined | None:
    """A method by its name: one of METHODS, `dropN+searched`, `runN+searched` or one of REFINED and N; None for no method."""
    if (
        (match := re.fullmatch(r"([a-z_]+?)(\d+)", name)) is not None
        and match[1] in REFINED
        and int(match[2])
    ):
        method, healed, start = REFINED[match[1]]
        return Refined(method, int(match[2]), healed, start)
    if (match := re.fullmatch(r"(drop|run)(\d+)\+searched", name)) is not None:
        return drops_then_searched(COMBINED[match[1]], int(match[2]))
    return METHODS.get(name)


def known() -> str:
    """All names of methods."""
    combined = (f"{word}N+searched" for word in COMBINED)
    return ", ".join([*METHODS, *combined, *(f"{word}N" for word in REFINED)])
