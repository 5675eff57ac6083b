"""`pzl refine`: measure children around a search's optimum or along its frontier, refit the scores to them, keep the best.

The search proves the optimum of a sum of scores, but a child's real loss is not a sum. Here whole children are assembled,
healed and measured on the score's text, behind the blocks that the pieces were trained on, and each measured loss informs the
next proposal. Every child is verified to meet every requirement. The result is the best that was measured; it is not proven
optimal. Bounds of a frontier are close together, so a child measured at one of them often meets others, too, and may be their
best.

Where requirements are on measured quality, each search finds the child that serves the goal best among those whose refitted sum
is at most t. Measured children refit the sum, and t moves between the largest sum that met the requirements and the smallest
that did not, by false position (Dahlquist & Bjorck 1974, section 6.3) in the logarithm. It is proven that no child with a
smaller refitted sum serves the goal better; that a child meets the requirements is measured.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from fractions import Fraction

import numpy as np
import torch

from puzzledsl.base.progress import Progress
from puzzledsl.child.definition import model_definition
from puzzledsl.child.healing.children import HealedChildren
from puzzledsl.child.healing.layer import child_digest
from puzzledsl.ir.nodes import Judged, LinearRequirement, Program, Search, written
from puzzledsl.ir.references import judged_by, refine_of
from puzzledsl.ir.tables import (
    Assignment,
    Figure,
    FrontierResult,
    MeasuredChild,
    RefinedFrontier,
    RefinedPoint,
    Refinement,
    SearchResult,
    Solution,
)
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.machine import room_bytes
from puzzledsl.models.placement import reachable_parent
from puzzledsl.pieces.store.library import origin
from puzzledsl.refining.candidates import SPREAD, TRIES, Candidates, Origin, Proposals
from puzzledsl.refining.judges import Figures, Judges, RefineInputs
from puzzledsl.refining.surrogate import Surrogate
from puzzledsl.scoring.inputs import healing_blocks, measure_of
from puzzledsl.scoring.measures import Measure
from puzzledsl.scoring.table import FiguresCache
from puzzledsl.search.frontier import point_search, targets

METHOD = "1"
"""Version of healing and measuring, part of the cache's key. Increase it when a change of the code changes losses."""
KEPT_SHARE = 8
"""1 / KEPT_SHARE of the free memory may hold healed streams, which children with equal first layers share."""


class Meter:
    """Measures the loss of children of one search. Each loss is written to the disk as soon as it is known."""

    def __init__(self, inputs: RefineInputs, score: str) -> None:
        """Read the text to score on and the text to heal on. Raises DiagnosticError."""
        self._inputs, own, refine = inputs, inputs.of_score(score), inputs.refine
        scored = own.with_method(samples=refine.samples, data=refine.data or own.method.data)
        self.metric = scored.method.metric
        self._model = reachable_parent(inputs.parent_dir, inputs.progress, once=False)
        self._measure: Measure = measure_of(scored, LayerRunner(self._model))
        self._fitted = refine.healed > 0
        self._calibration_NS = healing_blocks(own, refine.healed)
        self._children: HealedChildren | None = None
        bld = scored.bld
        pieces = {piece.job.id: piece.sha256 for piece in self._inputs.library.pieces()}
        parent_dir = self._inputs.parent_dir
        measured = origin(parent_dir, torch.cat([group.flatten() for group in self._measure.groups]))
        healed = origin(parent_dir, self._calibration_NS)["text"]
        made = [pieces.get(job.id, "") for job in self._inputs.jobs]
        parts = [METHOD, self._measure.identity(), self._fitted, bld.name, measured, healed, made]
        key = json.dumps(parts, sort_keys=True)
        name = hashlib.sha256(key.encode()).hexdigest()[:24]
        self._known = FiguresCache(inputs.figures or scored.build.figures(f"children-{name}"), key)

    def start(self, title: str, children: int) -> None:
        """Begin a bar of so many children."""
        self._inputs.progress.start(title, children)

    def keep_known(self, children: int = 1) -> None:
        """Count children that need no measuring."""
        self._inputs.progress.advance(children, kept=True)

    @property
    def measured(self) -> int:
        """Number of children that this run and earlier ones have measured."""
        return len(self._known.figures)

    def samples(self) -> int:
        """Return the number of token positions that a loss is a mean over."""
        return self._measure.samples()

    def loss(self, solution: Solution) -> float:
        """Return the score's metric for a child after healing. Raises DiagnosticError for a missing or damaged piece."""
        inputs = self._inputs
        layers = model_definition(inputs.program, inputs.search, solution, inputs.jobs).layers
        name = (0, "child", child_digest(layers))
        if name not in self._known.figures:
            if self._children is None:  # the parent runs once, when there is something new to compare with it
                self._children = HealedChildren(
                    self._model,
                    self._inputs.library.load,
                    self._calibration_NS,
                    self._measure,
                    fitted=("attention", "ffn") if self._fitted else (),
                    kept_bytes=room_bytes() // KEPT_SHARE,
                    folder=self._inputs.work,
                )
                inputs.progress.ready()
            _, figures = next(self._children.measured([layers]))
            self._known.add(name, dict(figures))
        return self._known.figures[name][self.metric]


STEP = 0.15, 1.5
"""The least and the greatest step of log t while all children meet the requirements, or none does."""
INSIDE = 0.15
"""A step between two children stays so far from both, as a share of their distance in log t."""
NO_BETTER_THAN_A_COIN = 0.5
"""Confidence at which a figure counts as it was measured, without its error."""
LEAST_LOSS = 1e-4
"""Figures better than the parent's count as this loss in nats."""


def slack(judged: Judged, figure: Figure, sure: float) -> float:
    """Return log(allowed / measured loss) in nats, above 0 where met with confidence `sure`. Raises KeyError if not measured."""
    record = judged.record
    error = statistics.NormalDist().inv_cdf(sure) * (figure.stderr or 0.0)
    worst = figure.value + error if record.better == "less" else figure.value - error
    allowed, lost = (max(LEAST_LOSS, float(record.guess(Fraction(each)))) for each in (judged.bound, worst))
    return math.log(allowed / lost)


class Requirements:
    """Requirements of a search on judged figures."""

    def __init__(self, program: Program, search: Search) -> None:
        self._all = [
            (requirement, requirement.judged, float(program.judges[requirement.judged.judge].sure))
            for requirement in search.requirements
            if isinstance(requirement, LinearRequirement) and requirement.judged is not None
        ]

    @property
    def first(self) -> float:
        """The bound on the summed loss that a search begins with."""
        return min(float(requirement.limit) for requirement, _, _ in self._all)

    def slack(self, figures: Figures) -> float:
        """Return the least slack of all requirements; a figure that could not be had meets nothing."""
        return min(self._slack(judged, figures, sure) for _, judged, sure in self._all)

    def missed(self, figures: Figures) -> tuple[str, ...]:
        """Return the requirements that a child misses, as they are written."""
        return tuple(written(r) for r, judged, sure in self._all if self._slack(judged, figures, sure) < 0)

    def _slack(self, judged: Judged, figures: Figures, sure: float) -> float:
        figure = figures.get(f"{judged.judge}.{judged.figure}")
        if figure is None or (figure.stderr is None and sure > NO_BETTER_THAN_A_COIN):
            return -STEP[0]  # one block of text, or a parent at chance: nothing is sure
        return slack(judged, figure, sure)


class JudgedSearch:
    """Children that are measured for requirements on their quality. Deterministic for given figures and seed."""

    def __init__(self, candidates: Candidates, judges: Judges, requirements: Requirements, seed: int) -> None:
        self._candidates, self._judges, self._requirements = candidates, judges, requirements
        self.surrogate = Surrogate(candidates.table, candidates.tables.dropped())
        self._generator = np.random.default_rng(seed)
        self._slacks: dict[tuple[Assignment, ...], float] = {}
        self._unreachable, self._reached = 0.0, requirements.first
        self.solutions: list[Solution] = []
        self.children: list[MeasuredChild] = []

    def run(self, first: Solution, children: int, progress: Progress) -> None:
        """Measure `first`, then children that are proposed, until there are so many or no new one is proposed."""
        proposal: tuple[Origin, Solution] | None = ("optimum", first)
        while proposal is not None:
            child = self._measured(*proposal, f"{len(self.children) + 1} of {children}")
            progress.log("judged", missed=list(child.missed), kl=child.measured, predicted=child.predicted)
            proposal = self._next() if len(self.children) < children else None

    def best(self) -> MeasuredChild:
        """Return the best child that meets the requirements; where none does, the one that misses by least."""
        return self.children[self._best()]

    def solution(self) -> Solution:
        """Return the child of `best` with its objective and metrics."""
        return self.solutions[self._best()]

    def _best(self) -> int:
        sign = -1 if self._candidates.maximizes else 1
        order = [
            (False, sign * solution.objective, child.measured)
            if not child.missed
            else (True, -self._slacks[child.layers], child.measured)
            for solution, child in zip(self.solutions, self.children, strict=True)
        ]
        return order.index(min(order))

    def _measured(self, origin: Origin, solution: Solution, title: str) -> MeasuredChild:
        mean, stderr = self.surrogate.predict(solution.layers)
        figures = self._judges.figures(solution, title)
        loss = figures[f"{self._judges.first}.kl"].value
        child = MeasuredChild(
            layers=solution.layers,
            origin=origin,
            predicted=mean,
            predicted_stderr=stderr,
            measured=loss,
            judged=dict(figures),
            objective=solution.objective,
            missed=self._requirements.missed(figures),
        )
        self.surrogate.tell(solution.layers, loss)
        self._slacks[solution.layers] = self._requirements.slack(figures)
        self.solutions.append(solution)
        self.children.append(child)
        self._judges.keep(self.best().layers)
        return child

    def _next(self) -> tuple[Origin, Solution] | None:
        """Return a child that is not measured yet, the optimum under the next bound by refitted or drawn scores; or None."""
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
            return "model", found
        for _ in range(TRIES):
            drawn = self._candidates.optimum(self.surrogate.table(self._generator, SPREAD), most)
            if drawn is not None and drawn.layers not in self._slacks:
                return "drawn", drawn
        return None

    def bound(self) -> float:
        """Return the next bound on the refitted sum, in nats."""
        seen = ((self.surrogate.predict(child)[0], slack) for child, slack in self._slacks.items())
        floored = [(max(LEAST_LOSS, loss), slack) for loss, slack in seen]
        return next_bound(floored, self._unreachable, self._reached)


def next_bound(seen: Sequence[tuple[float, float]], unreachable: float = 0.0, reached: float = 0.0) -> float:
    """Return the next bound from (predicted loss, slack) of measured children.

    Below `unreachable` there is no child; up to `reached` the best one is known, and meets the requirements.
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


def run_refine(inputs: RefineInputs, result: SearchResult) -> Refinement:
    """Measure `refine.children` children of a solved search, none of them twice. Raises DiagnosticError, ValueError."""
    candidates = inputs.candidates()
    if not result.solutions:
        raise ValueError(f"search {inputs.search} has nothing to refine")
    inputs.work.mkdir(parents=True, exist_ok=True)
    meter = meter_of(inputs, candidates)
    meter.start(f"refine {inputs.search}", inputs.refine.children)
    return refined(inputs, result, candidates, meter)


def meter_of(inputs: RefineInputs, candidates: Candidates) -> Meter | Judges:
    """Return what measures children: the judges where requirements name some, else the score's own text."""
    if judged_by(inputs.program.searches[inputs.search]):
        return Judges(inputs)
    return Meter(inputs, candidates.score)


def judged(inputs: RefineInputs, result: SearchResult, candidates: Candidates, judges: Judges) -> Refinement:
    """Measure children until the best one that meets the requirements on judged figures is bracketed."""
    program, optimum = inputs.program, result.solutions[0]
    requirements = Requirements(program, program.searches[inputs.search])
    found = JudgedSearch(candidates, judges, requirements, _seed(program, candidates.score))
    found.run(optimum, inputs.refine.children, inputs.progress)
    bound = found.bound()
    model_optimum = candidates.optimum(found.surrogate.table(), bound) or optimum
    return Refinement(
        search=inputs.search,
        score=candidates.score,
        metric=f"{judges.first}.kl",
        healed=0,
        samples=judges.tokens,
        children=tuple(found.children),
        solution=found.solution(),
        parent_metrics=result.parent_metrics,
        model_optimum=model_optimum.layers,
        model_prediction=found.surrogate.predict(model_optimum.layers)[0],
        proven=optimum.objective,
    )


def refined(
    inputs: RefineInputs, result: SearchResult, candidates: Candidates, meter: Meter | Judges
) -> Refinement:
    """Propose and measure children until there are `refine.children` of them or no new one is proposed."""
    if isinstance(meter, Judges):
        return judged(inputs, result, candidates, meter)
    refine, progress = inputs.refine, inputs.progress
    optimum = result.solutions[0]
    proposals = Proposals(candidates, optimum, _seed(inputs.program, candidates.score))
    measured: list[MeasuredChild] = []
    best: tuple[float, Solution] | None = None
    while len(measured) < refine.children and (proposal := proposals.next()) is not None:
        before = meter.measured
        loss = meter.loss(proposal.solution)
        proposals.tell(proposal.solution.layers, loss)
        if best is None or loss < best[0]:
            best = loss, proposal.solution
        measured.append(proposal.measured(loss))
        progress.advance(1, kept=meter.measured == before, measured=loss, best=best[0])
    meter.keep_known(refine.children - len(measured))
    assert best is not None, "the optimum is proposed first"
    model_optimum = proposals.model_optimum() or optimum
    return Refinement(
        search=inputs.search,
        score=candidates.score,
        metric=meter.metric,
        healed=refine.healed,
        samples=meter.samples(),
        children=tuple(measured),
        solution=best[1],
        parent_metrics=result.parent_metrics,
        model_optimum=model_optimum.layers,
        model_prediction=proposals.predict(model_optimum.layers)[0],
        proven=optimum.objective,
    )


def _seed(program: Program, score: str) -> int:
    bld = program.scores[score].bld
    return 0 if bld is None else program.blds[bld].seed


def with_elsewhere(
    points: Sequence[tuple[Candidates, Refinement] | None], search: Refinement | None
) -> list[Refinement | None]:
    """Add to each point the children measured elsewhere that meet its requirements; its solution is the best of all its children.

    `points`: (candidates, refinement) of each point, None for one without a solution. `search`: children measured around the
    search's optimum, healed and measured as the points' are. They are added first, then those of the points, in order.
    """
    measured = [search, *(point[1] for point in points if point is not None)]
    known = [child for refinement in measured if refinement is not None for child in refinement.children]
    return [None if point is None else _completed(*point, known) for point in points]


def _completed(candidates: Candidates, here: Refinement, known: Iterable[MeasuredChild]) -> Refinement:
    """Add the children of `known` that meet a point's requirements, each once. Of equally good children the first is the best."""
    children, best, solution = list(here.children), here.best.measured, here.solution
    seen = {child.layers for child in children}
    for child in known:
        if child.layers in seen:
            continue
        seen.add(child.layers)
        found = candidates.meeting(child.layers, here.solution.batches)
        if found is None:
            continue
        children.append(child.model_copy(update={"origin": "elsewhere"}))
        if child.measured < best:
            best, solution = child.measured, found
    return Refinement.model_validate({**dict(here), "children": tuple(children), "solution": solution})


def run_refine_frontier(
    inputs: RefineInputs, frontier: str, result: FrontierResult, around: Refinement | None = None
) -> RefinedFrontier:
    """Measure `children` at every point of a solved frontier, as `run_refine` does for a search.

    A child measured for the search or at another point is not measured again. It is a candidate for the best child of every point
    whose requirements it meets. Points without a solution have no refinement. `around`: the children measured for the search
    with the present settings.

    Raises DiagnosticError: missing tables, pieces or text.
    """
    here = inputs.program.frontiers[frontier]
    search = inputs.program.searches[inputs.search]
    search = search.model_copy(update={"refine": refine_of(here, search)})
    inputs = inputs.with_search(search)
    children = inputs.refine.children
    inputs.work.mkdir(parents=True, exist_ok=True)
    meter = meter_of(inputs, inputs.candidates())
    meter.start(f"refine {frontier}", children * here.points)
    measured: list[tuple[Candidates, Refinement] | None] = []
    for target, point in zip(targets(here), result.points, strict=True):
        if point.result.solutions:
            at_point = inputs.with_search(point_search(search, here, target))
            candidates = at_point.candidates()
            measured.append((candidates, refined(at_point, point.result, candidates, meter)))
        else:
            meter.keep_known(children)
            measured.append(None)
    found: Sequence[Refinement | None] = [point and point[1] for point in measured]
    if not judged_by(search):  # children of other points would have to be compared by more than their loss
        found = with_elsewhere(measured, around)
    points = [
        RefinedPoint(target=point.target, ratio=point.ratio, refinement=refinement)
        for point, refinement in zip(result.points, found, strict=True)
    ]
    return RefinedFrontier(frontier=frontier, search=search.name, points=tuple(points))
