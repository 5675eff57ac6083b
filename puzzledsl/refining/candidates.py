"""Candidate children of a search, verified against every requirement with the original tables, and the next one to measure.

The first proposal is the optimum of the original scores. After it, proposals alternate between the optimum of the refitted scores
and optima of scores drawn around these (Thompson sampling: Russo et al. 2018, arXiv 1707.02038). Draws have less spread than the
posterior: wide draws propose far worse children, which teach the model little about the best.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from puzzledsl.ir import nodes
from puzzledsl.ir.references import refined_score, without_judges
from puzzledsl.ir.tables import (
    Assignment,
    CostTable,
    Figure,
    MeasuredChild,
    ScoreTable,
    SearchResult,
    Solution,
)
from puzzledsl.refining.surrogate import Surrogate
from puzzledsl.search.answer import solution_of
from puzzledsl.search.solve import alone, solve_search
from puzzledsl.search.tables import tables_of
from puzzledsl.search.verify import verify

Figures = Mapping[str, Figure]
"""`JUDGE.FIGURE` -> its value and standard error."""
REFITTED = "{}, refitted"
"""Name of the refitted score in the objective. The comma keeps it apart from all names of a program. Requirements still use the
measured score."""


class Candidates:
    """Candidate children of one search with its tables. `score`: name of the score that measured children refit."""

    def __init__(
        self, program: nodes.Program, search: str, costs: CostTable, scores: Mapping[str, ScoreTable]
    ) -> None:
        """Raises DiagnosticError if a table is missing, ValueError if no score can be refitted (`refined_score`)."""
        self._program, self._costs, self._scores = program, costs, dict(scores)
        declared = program.searches[search]
        self.tables = tables_of(program, search, costs, scores)
        score = refined_score(program, declared)
        self._verified = without_judges(program, search)
        self._search = self._verified.searches[search]
        self.judged = [r for r in declared.requirements if r not in self._search.requirements]
        if score is None:
            raise ValueError(f"search {search} minimises no score that is measured on text")
        self.score, self.sense = score, declared.sense

    @property
    def table(self) -> ScoreTable:
        """The original table of the score."""
        return self._scores[self.score]

    def optimum(self, table: ScoreTable, most: float | None = None) -> Solution | None:
        """Return the child that is optimal when `table` replaces the score's table in the objective.

        `most`: the bound on its sum by `table`, in place of the requirements on judged figures. Its objective and metrics are
        computed with the original tables. None if the solver finds no child within the search's time limit.
        """
        goal, before = self._search.objective, nodes.ScoreTerm(score=self.score)
        own = {"term": nodes.ScoreTerm(score=self._refitted_name)}
        terms = tuple(each.model_copy(update=own) if each.term == before else each for each in goal.terms)
        goal = goal.model_copy(update={"terms": terms})
        if most is None:
            return self._refitted(table, objective=goal)
        bound = {"bound": Fraction(most).limit_denominator(10**9), "left": self._refitted_loss}
        bounded = [each.model_copy(update={**bound, "judged": None}) for each in self.judged[:1]]
        return self._refitted(table, objective=goal, requirements=(*self._search.requirements, *bounded))

    def least(self, table: ScoreTable) -> Solution | None:
        """Return the child with the least loss by `table` that meets all requirements but judged ones; None if none is found."""
        return self._refitted(table, sense="minimize", objective=self._refitted_loss)

    @property
    def _refitted_name(self) -> str:
        return REFITTED.format(self.score)

    @property
    def _refitted_loss(self) -> nodes.Linear:
        return alone(nodes.ScoreTerm(score=self._refitted_name))

    def _refitted(self, table: ScoreTable, **changes: object) -> Solution | None:
        """Solve the search with `changes` to it and `table` for the refitted score; None if no child is found."""
        name = self._refitted_name
        search = self._search.model_copy(update={**changes, "solutions": 1})
        declared = self._program.scores[self.score].model_copy(update={"name": name})
        scores = {**self._program.scores, name: declared}
        tables = {**self._scores, name: table.model_copy(update={"score": name})}
        found = self._solved(search, scores, tables).solutions[:1]
        return next((self.solution(each.layers, each.batches) for each in found), None)

    def ranked(self, count: int) -> list[Solution]:
        """Return the first answers of the search by the original scores, at most `count`, each apart from those before."""
        search = self._search.model_copy(update={"solutions": count})
        found = self._solved(search, self._program.scores, self._scores).solutions
        checked = (self.solution(each.layers, each.batches) for each in found)
        return [each for each in checked if each is not None]

    def solution(self, layers: tuple[Assignment, ...], batches: Mapping[str, int]) -> Solution | None:
        """Return the child with its objective and metrics; None if it violates a requirement."""
        solution = solution_of(self.tables, layers, dict(batches))
        wrong = verify(self._verified, self._search, self._costs, self._scores, solution)
        return None if wrong else solution

    def _solved(
        self, search: nodes.Search, scores: Mapping[str, object], tables: dict[str, ScoreTable]
    ) -> SearchResult:
        searches = {**self._program.searches, search.name: search}
        program = self._program.model_copy(update={"searches": searches, "scores": scores})
        return solve_search(program, search.name, self._costs, tables)


Origin = Literal["optimum", "model", "drawn"]
SPREAD = 0.25
"""Standard deviation of draws as a fraction of the posterior's."""
TURN = 3
"""Every TURN-th proposal is the optimum of the refitted scores if that is new; the others are drawn."""
TRIES = 20
"""After this many draws in a row without a new child, the search's own next answer is proposed."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A child to measure, with its predicted loss (mean and standard deviation)."""

    solution: Solution
    origin: Origin
    predicted: float
    stderr: float


class Proposals:
    """Thompson sampling over a `Surrogate`, and the children that are measured. Deterministic for given losses and seed."""

    def __init__(self, candidates: Candidates, optimum: Solution, seed: int) -> None:
        """Start from `optimum`, the search's own solution, which is proposed first."""
        self._candidates = candidates
        self.surrogate = Surrogate(candidates.table, candidates.tables.dropped())
        self._generator = np.random.default_rng(seed)
        self._optimum = optimum
        self._seen: set[tuple[Assignment, ...]] = set()
        self._turn = 0
        self.solutions: list[Solution] = []
        self.children: list[MeasuredChild] = []

    def next(self) -> Proposal | None:
        """Return a child that was not proposed before; None if none is found."""
        return self._refitted() if self._seen else self._proposed(self._optimum, "optimum")

    def add(self, proposal: Proposal, loss: float, figures: Figures | None = None) -> MeasuredChild:
        """Record a proposal's measured loss, refit the scores, and return the child's record. `figures`: what judges measured."""
        solution = proposal.solution
        child = MeasuredChild(
            layers=solution.layers,
            origin=proposal.origin,
            predicted=proposal.predicted,
            predicted_stderr=proposal.stderr,
            measured=loss,
            **self._judged(solution, figures),
        )
        self.surrogate.tell(solution.layers, loss)
        self.solutions.append(solution)
        self.children.append(child)
        return child

    def best(self) -> int:
        """Return the index in `children` of the best child; of equally good ones the first."""
        return min(range(len(self.children)), key=self._order)

    def model_optimum(self) -> Solution | None:
        """Return the optimum of the refitted scores; None if the solver finds none."""
        return self._candidates.optimum(self.surrogate.table())

    def _refitted(self) -> Proposal | None:
        if self._turn % TURN == 0 and (found := self.model_optimum()) is not None:
            self._turn += 1
            if found.layers not in self._seen:
                return self._proposed(found, "model")
        found = self._drawn()
        self._turn += found is not None
        return None if found is None else self._proposed(found, "drawn")

    def _drawn(self, most: float | None = None) -> Solution | None:
        """Return a new optimum of drawn scores. After TRIES failures: with `most`, None; without it, the search's next answer."""
        for _ in range(TRIES):
            drawn = self._candidates.optimum(self.surrogate.table(self._generator, SPREAD), most)
            if drawn is not None and drawn.layers not in self._seen:
                return drawn
        ranked = self._candidates.ranked(len(self._seen) + 1) if most is None else []
        return next((each for each in ranked if each.layers not in self._seen), None)

    def _judged(self, solution: Solution, figures: Figures | None) -> dict[str, Any]:
        return {}

    def _order(self, number: int) -> tuple[object, ...]:
        return (self.children[number].measured,)

    def _proposed(self, solution: Solution, origin: Origin) -> Proposal:
        self._seen.add(solution.layers)
        return Proposal(solution, origin, *self.surrogate.predict(solution.layers))


STEP = 0.15, 1.5
"""The least and the greatest step of log t while all children meet the requirements, or none does."""
INSIDE = 0.15
"""Least distance in log t of a new bound from each of the two children that it lies between, as a share of their distance."""
NO_BETTER_THAN_A_COIN = 0.5
"""Confidence at which a figure counts as it was measured, without its error."""
LEAST_LOSS = 1e-4
"""Figures better than the parent's count as this loss in nats."""


def slack(judged: nodes.Judged, figure: Figure, sure: float) -> float:
    """Return log(allowed loss / measured loss), at least 0 where the requirement is met with confidence `sure`."""
    record = judged.record
    error = statistics.NormalDist().inv_cdf(sure) * (figure.stderr or 0.0)
    worst = figure.value + error if record.better == "less" else figure.value - error
    allowed, lost = (max(LEAST_LOSS, float(record.guess(Fraction(each)))) for each in (judged.bound, worst))
    return math.log(allowed / lost)


class JudgedProposals(Proposals):
    """Proposals for judged requirements: the bound's logarithm moves by false position (Dahlquist & Bjorck 1974, section 6.3)."""

    def __init__(self, candidates: Candidates, optimum: Solution, seed: int, program: nodes.Program) -> None:
        """`program`: declares the judges, with the confidence `sure` that each wants; else as `Proposals`."""
        super().__init__(candidates, optimum, seed)
        self._requirements = [
            (requirement, requirement.judged, float(program.judges[requirement.judged.judge].sure))
            for requirement in candidates.judged
            if isinstance(requirement, nodes.LinearRequirement) and requirement.judged is not None
        ]
        self._slacks: dict[tuple[Assignment, ...], float] = {}
        self._unreachable = 0.0
        self._reached = min(float(requirement.limit) for requirement, _, _ in self._requirements)

    def bound(self) -> float:
        """Return the next bound on the refitted sum, in nats."""
        seen = ((self.surrogate.predict(child)[0], slack) for child, slack in self._slacks.items())
        floored = [(max(LEAST_LOSS, loss), slack) for loss, slack in seen]
        return next_bound(floored, self._unreachable, self._reached)

    def model_optimum(self) -> Solution | None:
        """Return the optimum of the refitted scores under the next bound; None if the solver finds none."""
        return self._candidates.optimum(self.surrogate.table(), self.bound())

    def _refitted(self) -> Proposal | None:
        """Propose a child that is optimal under the next bound by refitted scores, else by drawn ones; None if none is new."""
        table = self.surrogate.table()
        most = self.bound()
        for _ in range(TRIES):
            found = self._candidates.optimum(table, most)
            if found is None:
                self._unreachable = most
                found = self._candidates.least(table)
            if found is None or found.layers not in self._slacks:
                break
            if self._slacks[found.layers] >= 0:  # nothing that is allowed serves the goal better
                self._reached = most
            if (moved := self.bound()) == most:
                break
            most = moved
        if found is not None and found.layers not in self._slacks:
            return self._proposed(found, "model")
        drawn = self._drawn(most)
        return None if drawn is None else self._proposed(drawn, "drawn")

    def _judged(self, solution: Solution, figures: Figures | None) -> dict[str, Any]:
        """Keep the least slack of all requirements; return the figures, and the requirements that the child misses."""
        assert figures is not None, "children are judged"
        slacks = [self._slack(judged, figures, sure) for _, judged, sure in self._requirements]
        self._slacks[solution.layers] = min(slacks)
        each = zip(self._requirements, slacks, strict=True)
        missed = tuple(nodes.written(requirement) for (requirement, _, _), left in each if left < 0)
        return {"judged": dict(figures), "objective": solution.objective, "missed": missed}

    def _slack(self, judged: nodes.Judged, figures: Figures, sure: float) -> float:
        """Return a requirement's slack; it is below 0 where its figure, or the error that it needs, could not be measured."""
        figure = figures.get(f"{judged.judge}.{judged.figure}")
        if figure is None or (figure.stderr is None and sure > NO_BETTER_THAN_A_COIN):
            return -STEP[0]  # one block of text, or a parent at chance: nothing is sure
        return slack(judged, figure, sure)

    def _order(self, number: int) -> tuple[object, ...]:
        """Order children that meet the requirements by the goal, before others by how much they miss."""
        child, sign = self.children[number], -1 if self._candidates.sense == "maximize" else 1
        if not child.missed:
            return False, sign * self.solutions[number].objective, child.measured
        return True, -self._slacks[child.layers], child.measured


def next_bound(seen: Sequence[tuple[float, float]], unreachable: float = 0.0, reached: float = 0.0) -> float:
    """Return the next bound on the refitted sum, in nats, from (predicted loss, slack) of measured children.

    No child has a sum of `unreachable` or less. The best child under `reached` is known, and meets the requirements.
    """
    met = [pair for pair in seen if pair[1] >= 0]
    low = max(met, default=None)
    above = [pair for pair in seen if pair[1] < 0 and (low is None or pair[0] > low[0])]
    high = min(above, default=None)
    if low is None:
        assert high is not None, "a child was measured"
        wanted = high[0] * math.exp(min(-STEP[0], max(-STEP[1], high[1])))
        return wanted if wanted > unreachable else math.sqrt(max(unreachable, LEAST_LOSS) * high[0])
    if high is None:
        return max(low[0], reached) * math.exp(max(STEP[0], min(STEP[1], low[1])))
    begin = max(low[0], min(reached, high[0]))
    share = min(1 - INSIDE, max(INSIDE, low[1] / (low[1] - high[1])))
    return begin * math.exp(share * math.log(high[0] / begin))
