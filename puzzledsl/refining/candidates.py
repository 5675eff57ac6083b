"""Candidate children of a search, verified against every requirement with the original tables, and the next one to measure.

The first proposals are the optimum of the original scores, the best child with the same block in every layer, and the children
of two rules that drop layers. They show which entries the sum overrates and underrates. After them, proposals alternate between
the optimum of the refitted scores and optima of scores drawn around these (Thompson sampling: Russo et al. 2018, arXiv
1707.02038). Draws have less spread than the posterior: wide draws propose far worse children, which teach the model little
about the best.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

import numpy as np

from puzzledsl.ir import nodes
from puzzledsl.ir.references import BY_INFLUENCE, refined_score, without_judges
from puzzledsl.ir.tables import Assignment, CostTable, MeasuredChild, ScoreTable, SearchResult, Solution
from puzzledsl.refining.surrogate import Surrogate
from puzzledsl.search.answer import batches_of, solution_of
from puzzledsl.search.solve import solve_search
from puzzledsl.search.tables import Tables, tables_of
from puzzledsl.search.verify.verify import verify

Rule = Literal["uniform", "block_influence", "angular_run"]
RULES: tuple[Rule, ...] = get_args(Rule)
"""Baseline rules whose children are measured in addition to the optimum."""
REFITTED = "{}, refitted"
"""Name of the refitted score in the objective. The comma keeps it apart from all names of a program. Requirements still use the
measured score."""


class Candidates:
    """Candidate children of one search with its tables. `score` is the name of the score that the search minimises."""

    def __init__(
        self, program: nodes.Program, search: str, costs: CostTable, scores: Mapping[str, ScoreTable]
    ) -> None:
        """Raises DiagnosticError if a table is missing, ValueError if the objective is not one score measured on text."""
        self._program, self._costs, self._scores = program, costs, dict(scores)
        declared = program.searches[search]
        self._tables = tables_of(program, search, costs, scores)
        score = refined_score(program, declared)
        self._verified = without_judges(program, search)
        self._search = self._verified.searches[search]
        self._judged = [r for r in declared.requirements if r not in self._search.requirements]
        if score is None or not isinstance(self._search.solver, nodes.CpSat):
            raise ValueError(f"search {search} minimises no score that is measured on text")
        self.score = score

    @property
    def table(self) -> ScoreTable:
        """The original table of the score."""
        return self._scores[self.score]

    @property
    def tables(self) -> Tables:
        """The search with its space, cost table and score tables."""
        return self._tables

    @property
    def maximizes(self) -> bool:
        """True for a search whose goal is to be large."""
        return self._search.sense == "maximize"

    def optimum(self, table: ScoreTable, most: float | None = None) -> Solution | None:
        """Return the child that is optimal when `table` replaces the score's table in the objective.

        `most`: the bound on its sum by `table`, in place of the requirements on judged figures. Its objective and metrics are
        computed with the original tables. None if the solver finds no child within the search's time limit.
        """
        goal = _with_score(self._search.objective, self.score, self._refitted_name)
        if most is None:
            return self._refitted(table, objective=goal)
        bounded = [_at_most(requirement, self._refitted_name, most) for requirement in self._judged[:1]]
        return self._refitted(table, objective=goal, requirements=(*self._search.requirements, *bounded))

    def least(self, table: ScoreTable) -> Solution | None:
        """Return the child with the least loss by `table` that meets the requirements but those on judged figures."""
        return self._refitted(table, sense="minimize", objective=_sum_of(self._refitted_name))

    @property
    def _refitted_name(self) -> str:
        return REFITTED.format(self.score)

    def _refitted(self, table: ScoreTable, **changes: object) -> Solution | None:
        """Return the answer of the search with some things changed, in which `table` is the refitted score's."""
        name = self._refitted_name
        search = self._search.model_copy(update={**changes, "solutions": 1})
        declared = self._program.scores[self.score].model_copy(update={"name": name})
        scores = {**self._program.scores, name: declared}
        tables = {**self._scores, name: table.model_copy(update={"score": name})}
        return self._checked(self._solved(search, scores, tables))

    def baselines(self) -> Iterator[tuple[Rule, Solution]]:
        """Yield (rule, child) for RULES whose child meets the requirements; rules by block influence where it is known."""
        for kind in RULES:
            if kind in BY_INFLUENCE and self.table.influence is None:
                continue
            search = self._search.model_copy(update={"solver": nodes.Baseline(kind=kind), "solutions": 1})
            solution = self._checked(self._solved(search, self._program.scores, self._scores))
            if solution is not None:
                yield kind, solution

    def solution(self, layers: tuple[Assignment, ...], batches: Mapping[str, int]) -> Solution | None:
        """Return the child with its objective and metrics; None if it violates a requirement."""
        solution = solution_of(self._tables, layers, dict(batches))
        wrong = verify(self._verified, self._search, self._costs, self._scores, solution)
        return None if wrong else solution

    def meeting(self, layers: tuple[Assignment, ...], near: Mapping[str, int]) -> Solution | None:
        """Return a child at the first batches, those `near` before others, that meet every requirement; None without any."""
        found = (self.solution(layers, batches) for batches in batches_of(self._tables, layers, near))
        return next((solution for solution in found if solution is not None), None)

    def predicted(self, solution: Solution) -> float:
        """Return the child's score by the original table."""
        return solution.metrics[self.score]

    def _solved(
        self, search: nodes.Search, scores: Mapping[str, object], tables: dict[str, ScoreTable]
    ) -> SearchResult:
        searches = {**self._program.searches, search.name: search}
        program = self._program.model_copy(update={"searches": searches, "scores": scores})
        return solve_search(program, search.name, self._costs, tables)

    def _checked(self, result: SearchResult) -> Solution | None:
        if not result.solutions:
            return None
        found = result.solutions[0]
        return self.solution(found.layers, found.batches)


def _sum_of(score: str) -> nodes.Linear:
    return nodes.Linear(
        terms=(nodes.WeightedTerm(coefficient=Fraction(1), term=nodes.ScoreTerm(score=score)),)
    )


def _at_most(requirement: nodes.Requirement, score: str, most: float) -> nodes.Requirement:
    bound = Fraction(most).limit_denominator(10**9)
    return requirement.model_copy(update={"left": _sum_of(score), "bound": bound, "judged": None})


def _with_score(goal: nodes.Linear, before: str, after: str) -> nodes.Linear:
    def renamed(weighted: nodes.WeightedTerm) -> nodes.WeightedTerm:
        if isinstance(weighted.term, nodes.ScoreTerm) and weighted.term.score == before:
            return weighted.model_copy(update={"term": nodes.ScoreTerm(score=after)})
        return weighted

    return goal.model_copy(update={"terms": tuple(map(renamed, goal.terms))})


Origin = Literal["optimum", "uniform", "block_influence", "angular_run", "model", "drawn"]
SPREAD = 0.25
"""Standard deviation of draws as a fraction of the posterior's."""
TURN = 3
"""Every TURN-th proposal is the optimum of the refitted scores; the others are drawn."""
TRIES = 20
"""Proposals end after this many draws in a row without a new child."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A child to measure, with its predicted loss (mean and standard deviation)."""

    solution: Solution
    origin: Origin
    predicted: float
    stderr: float

    def measured(self, loss: float) -> MeasuredChild:
        """Return the record of the child with its measured loss."""
        return MeasuredChild(
            layers=self.solution.layers,
            origin=self.origin,
            predicted=self.predicted,
            predicted_stderr=self.stderr,
            measured=loss,
        )


class Proposals:
    """Thompson sampling over a `Surrogate`. Deterministic for given losses and seed."""

    def __init__(self, candidates: Candidates, optimum: Solution, seed: int) -> None:
        """Start from `optimum`, the search's own solution, which is proposed first."""
        self._candidates = candidates
        self.surrogate = Surrogate(candidates.table, candidates.tables.dropped())
        self._generator = np.random.default_rng(seed)
        self._first: list[tuple[Solution, Origin]] = [(optimum, "optimum")]
        self._first += [(solution, rule) for rule, solution in candidates.baselines()]
        self._seen: set[tuple[Assignment, ...]] = set()
        self._turn = 0

    def next(self) -> Proposal | None:
        """Return a child that was not proposed before; None if TRIES draws bring none."""
        while self._first:
            solution, origin = self._first.pop(0)
            if solution.layers not in self._seen:
                return self._proposed(solution, origin)
        if self._turn % TURN == 0 and (found := self.model_optimum()) is not None:
            self._turn += 1
            if found.layers not in self._seen:
                return self._proposed(found, "model")
        for _ in range(TRIES):
            drawn = self._candidates.optimum(self.surrogate.table(self._generator, SPREAD))
            if drawn is not None and drawn.layers not in self._seen:
                self._turn += 1
                return self._proposed(drawn, "drawn")
        return None

    def tell(self, child: tuple[Assignment, ...], loss: float) -> None:
        """Refit the scores to the measured loss of a child too."""
        self.surrogate.tell(child, loss)

    def predict(self, child: tuple[Assignment, ...]) -> tuple[float, float]:
        """Return the expected loss by the refitted scores and its standard deviation."""
        return self.surrogate.predict(child)

    def model_optimum(self) -> Solution | None:
        """Return the optimum of the refitted scores."""
        return self._candidates.optimum(self.surrogate.table())

    def _proposed(self, solution: Solution, origin: Origin) -> Proposal:
        self._seen.add(solution.layers)
        return Proposal(solution, origin, *self.surrogate.predict(solution.layers))
