"""Measured loss of whole children, assembled and healed in memory, with a cache of losses on the disk.

Losses are measured on the score's text: blocks after those that the pieces were trained on. Children are healed on other blocks.
"""

from __future__ import annotations

import hashlib
import json

import torch

from puzzledsl.child.definition import model_definition
from puzzledsl.child.healing.chain import child_digest
from puzzledsl.child.healing.children import HealedChildren
from puzzledsl.ir.nodes import Bld
from puzzledsl.ir.tables import Solution
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.memory import room_bytes
from puzzledsl.models.placement import reachable_parent
from puzzledsl.pieces.store.origin import origin
from puzzledsl.refining.inputs import RefineInputs
from puzzledsl.scoring.figures_cache import FiguresCache
from puzzledsl.scoring.measures import Measure
from puzzledsl.scoring.subject import measure_of
from puzzledsl.scoring.text import healing_blocks

METHOD = "1"
"""Version of healing and measuring, part of the cache's key. Increase it when a change of the code changes losses."""
KEPT_SHARE = 8
"""1 / KEPT_SHARE of the free memory may hold healed streams, which children with equal first layers share."""


class Meter:
    """Measures the loss of children of one search. Each loss is written to the disk as soon as it is known."""

    def __init__(self, inputs: RefineInputs, score: str) -> None:
        """Read the text to score on and the text to heal on.

        Raises DiagnosticError: no text, too little of it, a parent that cannot be read.
        """
        self._inputs, own, refine = inputs, inputs.of_score(score), inputs.refine
        scored = own.with_method(samples=refine.samples, data=refine.data or own.method.data)
        self.metric = scored.method.metric
        self._model = reachable_parent(inputs.parent_dir, inputs.progress, once=False)
        self._measure: Measure = measure_of(scored, LayerRunner(self._model))
        self._fitted = refine.healed > 0
        self._calibration_NS = healing_blocks(own, refine.healed)
        self._children: HealedChildren | None = None
        key = self._key(scored.bld)
        name = hashlib.sha256(key.encode()).hexdigest()[:24]
        self._known = FiguresCache(inputs.figures or scored.build.figures(f"children-{name}"), key)

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
                self._children = self._prepared()
            _, figures = next(self._children.measured([layers]))
            self._known.add(name, dict(figures))
        return self._known.figures[name][self.metric]

    def _prepared(self) -> HealedChildren:
        return HealedChildren(
            self._model,
            self._inputs.library.load,
            self._calibration_NS,
            self._measure,
            fitted=("attention", "ffn") if self._fitted else (),
            kept_bytes=room_bytes() // KEPT_SHARE,
            folder=self._inputs.work,
        )

    def _key(self, bld: Bld) -> str:
        """Return the cache's key: everything besides the child that losses depend on. Each key has its own file."""
        pieces = {piece.job.id: piece.sha256 for piece in self._inputs.library.pieces()}
        parent_dir = self._inputs.parent_dir
        measured = origin(parent_dir, torch.cat([group.flatten() for group in self._measure.groups]))
        healed = origin(parent_dir, self._calibration_NS)["text"]
        made = [pieces.get(job.id, "") for job in self._inputs.jobs]
        parts = [METHOD, self._measure.identity(), self._fitted, bld.name, measured, healed, made]
        return json.dumps(parts, sort_keys=True)
