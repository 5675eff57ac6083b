"""`pzl refine`: measure children around a search's optimum, refit the scores to them, keep the best.

The search proves the optimum of a sum of scores, but a child's real loss is not a sum. Here whole children are assembled,
healed and measured on the score's text, behind the blocks that the pieces were trained on, and each measured loss informs the
next proposal. Every child is verified to meet every requirement. The result is the best that was measured; it is not proven
optimal. Bounds of a frontier are close together, so a child measured at one of them often meets others, too, and may be their
best.

Where requirements are on measured quality, each search finds the child that serves the goal best among those whose refitted sum
is at most t. Measured children refit the sum, and t moves between the largest sum that met the requirements and the smallest
that did not. It is proven that no child with a smaller refitted sum serves the goal better, and measured that a child meets the
requirements.
"""

from __future__ import annotations

import hashlib
import json

import torch

from puzzledsl.child.definition import model_definition
from puzzledsl.child.healing.children import HealedChildren
from puzzledsl.child.healing.layer import child_digest
from puzzledsl.ir.references import judged_by
from puzzledsl.ir.tables import Refinement, SearchResult, Solution
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.machine import room_bytes
from puzzledsl.models.placement import reachable_parent
from puzzledsl.pieces.store.library import origin
from puzzledsl.refining.candidates import JudgedProposals, Proposal, Proposals
from puzzledsl.refining.judges import Judges, RefineInputs
from puzzledsl.scoring.inputs import healing_blocks, measure_of
from puzzledsl.scoring.measures import Measure
from puzzledsl.scoring.table import FiguresCache

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
        self._known = FiguresCache(scored.build.figures(f"children-{name}"), key)

    def start(self, title: str, children: int) -> None:
        """Begin a bar of so many children."""
        self._inputs.progress.start(title, children)

    def keep_known(self, children: int = 1) -> None:
        """Count children that need no measuring."""
        self._inputs.progress.advance(children, kept=True)

    def measure(self, proposal: Proposal, proposals: Proposals, children: int) -> None:
        """Measure a proposal, and report the best of all so far."""
        before = len(self._known.figures)
        loss = self.loss(proposal.solution)
        proposals.add(proposal, loss)
        best = proposals.children[proposals.best()].measured
        kept = len(self._known.figures) == before
        self._inputs.progress.advance(1, kept=kept, measured=loss, best=best)

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


def run_refine(inputs: RefineInputs, result: SearchResult) -> Refinement:
    """Measure `refine.children` children of a solved search, none of them twice, or all that are proposed.

    Judges measure them where requirements name some, else the score's own text. Raises DiagnosticError, ValueError.
    """
    program, children, candidates = inputs.program, inputs.refine.children, inputs.candidates()
    if not result.solutions:
        raise ValueError(f"search {inputs.search} has nothing to refine")
    inputs.work.mkdir(parents=True, exist_ok=True)
    optimum, bld = result.solutions[0], program.scores[candidates.score].bld
    given = candidates, optimum, 0 if bld is None else program.blds[bld].seed
    meter: Meter | Judges
    proposals: Proposals
    if judged_by(program.searches[inputs.search]):
        meter, proposals = Judges(inputs, optimum), JudgedProposals(*given, program)
    else:
        meter, proposals = Meter(inputs, candidates.score), Proposals(*given)
    meter.start(f"refine {inputs.search}", children)
    while len(proposals.children) < children and (proposal := proposals.next()) is not None:
        meter.measure(proposal, proposals, children)
    if isinstance(meter, Meter):
        meter.keep_known(children - len(proposals.children))
    model_optimum = proposals.model_optimum() or optimum
    return Refinement(
        search=inputs.search,
        score=candidates.score,
        metric=meter.metric,
        healed=inputs.refine.healed if isinstance(meter, Meter) else 0,
        samples=meter.samples(),
        children=tuple(proposals.children),
        solution=proposals.solutions[proposals.best()],
        parent_metrics=result.parent_metrics,
        model_optimum=model_optimum.layers,
        model_prediction=proposals.surrogate.predict(model_optimum.layers)[0],
        proven=optimum.objective,
    )
