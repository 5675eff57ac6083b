"""`pzl refine`: measure children around a search's optimum, refit the scores to them, keep the best.

The search proves the optimum of a sum of scores, but a child's real loss is not a sum. Here whole children are assembled, healed
and measured on the score's text, behind the blocks that the pieces were trained on, and each measured loss informs the next
proposal. Every child is verified to meet all requirements but judged ones. The result is the best that was measured; it is not
proven optimal. Bounds of a frontier are close: a child measured at one often meets others, too, and may be their best.

Where requirements are on measured quality, each search finds the child that serves the goal best among those whose refitted sum
is at most t. Measured children refit the sum, and t moves between the largest sum that met the requirements and the smallest that
did not. It is proven that no child with a smaller refitted sum serves the goal better, and measured that a child meets the
requirements.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.child.checkpoint.contents import Pieces
from puzzledsl.child.definition import model_definition
from puzzledsl.child.healing.layer import Link, chain, first_changed, points
from puzzledsl.child.healing.walk import HealingGroups
from puzzledsl.ir.references import judged_by
from puzzledsl.ir.tables import LayerDefinition, Refinement, SearchResult, Solution
from puzzledsl.models.families.access import absent
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.machine import room_bytes
from puzzledsl.models.placement import reachable_parent
from puzzledsl.pieces.store.library import origin
from puzzledsl.refining.candidates import JudgedProposals, Proposal, Proposals
from puzzledsl.refining.judges import Judges, RefineInputs
from puzzledsl.scoring.measures import Figures, Measure
from puzzledsl.scoring.replacements import FiguresCache
from puzzledsl.scoring.run import ScoreInputs, healing_blocks, measure_of

METHOD = "1"
"""Version of healing and measuring, part of the cache's key. Increase it when a change of the code changes losses."""
KEPT_SHARE = 8
"""1 / KEPT_SHARE of the free memory may hold healed streams, which children with equal first layers share."""
KEPT_EVERY = 4
"""The healed stream is kept after every KEPT_EVERY-th sub-block of a child, in 1 / KEPT_EVERY of the memory for all of them.
Another child with the same first sub-blocks heals at most KEPT_EVERY - 1 of these again."""
POINT_BYTES = 1 << 25
"""The parent's stream at one point is kept in memory up to this size, in a file above it."""


class HealedChildren:
    """Heals children of one parent on calibration tokens, an eighth of which judges, and measures them.

    The parent's stream is computed once, at every point. A child is healed from the first point where it differs from the parent
    to the last layer. The healed stream after every KEPT_EVERY-th sub-block is kept while there is room, and a child with the
    same first sub-blocks continues from there. Figures do not depend on the children measured before.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        pieces: Pieces,
        calibration_NS: Tensor,
        measure: Measure,
        folder: Path,
        *,
        fit: bool = True,
        kept_bytes: int = 1 << 31,
    ) -> None:
        """Run the parent once. Healed streams of children take at most `kept_bytes`, but one is always kept."""
        self._measure, self._fit, self._kept_bytes = measure, fit, kept_bytes
        self._without = absent(model)
        self._kept: OrderedDict[tuple[Link, ...], list[Tensor]] = OrderedDict()
        given = (model, pieces, calibration_NS, measure.groups, folder)
        with torch.no_grad():
            self._groups = HealingGroups.of(*given, held_bytes=POINT_BYTES)
            self._parent, self._layers = self._groups.parent, len(self._groups.runner)
            self._measure.set_parent(self._normed(list(self._parent.at(2 * self._layers))))

    @torch.no_grad()
    def figures(self, layers: Sequence[LayerDefinition]) -> Figures:
        """Return a child's metrics after healing. Raises DiagnosticError if a piece is missing, is damaged or does not fit."""
        links = chain(layers, self._without)
        reached, stream = self._start(links)
        for index, link in enumerate(links[reached:], reached + 1):
            between = {point: self._parent.at(point) for point in (link.point, link.goal)}
            stream = list(self._groups.past(self._groups.sub_block(link), stream, between, fit=self._fit))
            if index % KEPT_EVERY == 0 or index == len(links):
                self._keep(links[:index], stream)
        return self._measure.figures(self._normed(stream))

    def _start(self, links: tuple[Link, ...]) -> tuple[int, list[Tensor]]:
        """Return the number of first links whose healed stream is known, and this stream."""
        of_parent = points(self._layers, self._without)
        changed = first_changed(links, of_parent)
        for reached in range(len(links), changed, -1):
            if links[:reached] in self._kept:
                self._kept.move_to_end(links[:reached])
                return reached, self._kept[links[:reached]]
        return changed, list(self._parent.at(of_parent[changed]))

    def _keep(self, links: tuple[Link, ...], stream: list[Tensor]) -> None:
        """Cache a stream; evict the least recently used ones while the cache exceeds its limit."""
        self._kept[links] = stream
        size = sum(hidden.nbytes for hidden in stream)
        while len(self._kept) > 1 and len(self._kept) * size > self._kept_bytes:
            self._kept.popitem(last=False)

    def _normed(self, stream: Sequence[Tensor]) -> list[Tensor]:
        return [self._groups.runner.final_norm(hidden) for hidden in self._groups.measured(stream)]


class Meter:
    """Measures the loss of children of one search. Each loss is written to the disk as soon as it is known."""

    def __init__(self, inputs: RefineInputs, score: str) -> None:
        """Read the text to score on and the text to heal on. Raises DiagnosticError."""
        self._inputs, refine = inputs, inputs.refine
        given = (inputs.parent_dir, inputs.base, inputs.library, inputs.jobs, inputs.work, inputs.progress)
        own = ScoreInputs(inputs.program, score, *given)
        scored = own.with_method(samples=refine.samples, data=refine.data or own.method.data)
        self.metric = scored.method.metric
        self._model = reachable_parent(inputs.parent_dir, inputs.progress, once=False)
        self._measure: Measure = measure_of(scored, LayerRunner(self._model))
        self.samples = self._measure.samples()
        """The number of token positions that a loss is a mean over."""
        self._fitted = refine.healed > 0
        self._calibration_NS = healing_blocks(own, refine.healed)
        self._children: HealedChildren | None = None
        pieces = inputs.library.checksums()
        measured = origin(inputs.parent_dir, torch.cat([group.flatten() for group in self._measure.groups]))
        healed = origin(inputs.parent_dir, self._calibration_NS)["text"]
        made = [pieces.get(job.id, "") for job in inputs.jobs]
        parts = [METHOD, self._measure.identity(), self._fitted, scored.bld.name, measured, healed, made]
        key = json.dumps(parts, sort_keys=True)
        self._known = FiguresCache(inputs.build, "children-", key)

    def start(self, title: str, children: int) -> None:
        """Start a progress bar of so many children."""
        self._inputs.progress.start(title, children)

    def measure(self, proposal: Proposal, proposals: Proposals, children: int) -> None:
        """Measure a proposal, add its loss to `proposals`, and report the best one so far; `children` is not used."""
        before = len(self._known.figures)
        loss = self.loss(proposal.solution)
        proposals.add(proposal, loss)
        best = proposals.children[proposals.best()].measured
        kept = len(self._known.figures) == before
        self._inputs.progress.advance(1, kept=kept, measured=loss, best=best)

    def loss(self, solution: Solution) -> float:
        """Return the score's metric for a child after healing. Raises DiagnosticError for a missing or damaged piece."""
        inputs = self._inputs
        layers = model_definition(inputs.program, inputs.name, solution, inputs.jobs).layers
        content = "\n".join(layer.model_dump_json() for layer in layers)
        name = (0, "child", hashlib.sha256(content.encode()).hexdigest()[:24])
        if name not in self._known.figures:
            if self._children is None:  # the parent runs once, when there is something new to compare with it
                given = (self._model, inputs.library.load, self._calibration_NS, self._measure, inputs.work)
                room = room_bytes() // KEPT_SHARE
                self._children = HealedChildren(*given, fit=self._fitted, kept_bytes=room)
                inputs.progress.ready()
            self._known.add(name, self._children.figures(layers))
        return self._known.figures[name][self.metric]


def run_refine(inputs: RefineInputs, result: SearchResult) -> Refinement:
    """Measure `refine.children` children of a solved search, each once; fewer if no more are proposed.

    Judges measure them where requirements name some, else the score's own text. Raises DiagnosticError, ValueError.
    """
    program, children, candidates = inputs.program, inputs.refine.children, inputs.candidates()
    if not result.solutions:
        raise ValueError(f"search {inputs.name} has nothing to refine")
    inputs.work.mkdir(parents=True, exist_ok=True)
    optimum, bld = result.solutions[0], program.scores[candidates.score].bld
    given = candidates, optimum, 0 if bld is None else program.blds[bld].seed
    meter: Meter | Judges
    proposals: Proposals
    if judged_by(program.searches[inputs.name]):
        meter, proposals = Judges(inputs, optimum), JudgedProposals(*given, program)
    else:
        meter, proposals = Meter(inputs, candidates.score), Proposals(*given)
    meter.start(f"refine {inputs.name}", children)
    while len(proposals.children) < children and (proposal := proposals.next()) is not None:
        meter.measure(proposal, proposals, children)
    if isinstance(meter, Meter):
        inputs.progress.advance(children - len(proposals.children), kept=True)
    model_optimum = proposals.model_optimum() or optimum
    return Refinement(
        search=inputs.name,
        score=candidates.score,
        metric=meter.metric,
        healed=inputs.refine.healed if isinstance(meter, Meter) else 0,
        samples=meter.samples,
        children=tuple(proposals.children),
        solution=proposals.solutions[proposals.best()],
        parent_metrics=result.parent_metrics,
        model_optimum=model_optimum.layers,
        model_prediction=proposals.surrogate.predict(model_optimum.layers)[0],
        proven=optimum.objective,
    )
