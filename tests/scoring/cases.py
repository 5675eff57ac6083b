"""A program with its pieces made, and the figures of its children by whole forward passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.progress import Silent
from puzzledsl.cluster.tasks import Executor
from puzzledsl.data.counts import Budget
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import BldJob, LayerDefinition, ModelDefinition, ScoreTable
from puzzledsl.models.families.load import load_parent
from puzzledsl.pieces.store.library import Library, StageInputs
from puzzledsl.pieces.train.run import run_bld
from puzzledsl.plan.bld import bld_plan
from puzzledsl.scoring.run import ScoreInputs, run_score
from tests.assembled import assemble
from tests.blocks import token_blocks
from tests.tiny import tiny_tokenizer


class ElsewhereHere(Executor):
    """Teams in this process that are taken for remote ones."""

    is_local = False


@dataclass
class Case:
    """A program with its pieces made."""

    base: Path
    program: nodes.Program
    jobs: tuple[BldJob, ...] = ()
    library: Library = field(init=False)

    def __post_init__(self) -> None:
        self.library = Library(self.base / "build" / "library")
        self.jobs = bld_plan(self.program, "b")
        work = self.base / "build" / "work" / "bld"
        run_bld(
            StageInputs(
                self.program, "b", self.base / "parent", self.base, self.library, self.jobs, work, Silent()
            )
        )

    def inputs(self, work: str = "score") -> ScoreInputs:
        """Inputs of the program's own score."""
        given = (self.program, "s", self.base / "parent", self.base, self.library, self.jobs)
        return ScoreInputs(*given, self.base / work, Silent())

    def score(self, work: str = "score", **method: Any) -> ScoreTable:
        inputs = self.inputs(work)
        if method:
            score = self.program.scores["s"].model_copy(update={"method": nodes.ReplaceOne(**method)})
            program = self.program.model_copy(update={"scores": {"s": score}})
            inputs = replace(inputs, program=program)
        return run_score(inputs)

    def naive(self, layer: int, attention: Any, ffn: Any, samples: int) -> dict[str, float]:
        """All three figures of one replacement in the parent."""
        layers: list[tuple[Any, Any]] = [(ParentAttention(), ParentFfn())] * self.program.parents[
            "p"
        ].shape.layers
        layers[layer] = (attention, ffn)
        return self.figures(layers, samples)

    def child(self, layers: Sequence[tuple[Any, Any]]) -> ModelDefinition:
        """The definition of a child with these choices."""
        pieces = {(j.layer, j.attention, j.ffn): j.id for j in self.jobs}
        definitions = tuple(
            LayerDefinition(
                attention=attention,
                ffn=ffn,
                attention_piece=pieces.get((layer, attention.of_piece, None)),
                ffn_piece=pieces.get((layer, None, ffn)),
            )
            for layer, (attention, ffn) in enumerate(layers)
        )
        return ModelDefinition(name="n", search="n", parent="p", layers=definitions)

    def figures(self, layers: Sequence[tuple[Any, Any]], samples: int) -> dict[str, float]:
        """All three figures of a child, in float64 from two whole models."""
        child, parent = (
            assemble(load_parent(self.base / "parent"), self.child(layers), self.library.load),
            load_parent(self.base / "parent"),
        )
        tokens = self.tokens(samples)
        states = [m(tokens, output_hidden_states=True, use_cache=False) for m in (parent, child)]
        p, q = (s.logits.double().log_softmax(-1).flatten(0, 1)[:samples] for s in states)
        hp, hq = (s.hidden_states[-1].double().flatten(0, 1)[:samples] for s in states)
        following = F.pad(tokens[:, 1:], (0, 1), value=-1).flatten()[:samples]
        known = following >= 0
        return {
            "kl_divergence": float((p.exp() * (p - q)).sum(-1).mean()),
            "lm_loss": float((p - q)[known, following[known]].mean()),
            "cosine": float((1 - F.cosine_similarity(hp, hq, dim=-1)).mean()),
        }

    def logits(self, layers: Sequence[tuple[Any, Any]], samples: int) -> torch.Tensor:
        """A child's logits at the scored positions, float64 [P, V]."""
        model = assemble(load_parent(self.base / "parent"), self.child(layers), self.library.load)
        logits: torch.Tensor = model(self.tokens(samples), use_cache=False).logits
        return logits.double().flatten(0, 1)[:samples]

    def tokens(self, samples: int) -> torch.Tensor:
        budget = Budget.of(self.program.blds["b"])
        count = -(-samples // budget.context)
        total = (budget.blocks + count) * budget.context
        data = self.program.data["mix"]
        blocks = token_blocks(
            data, self.base, tiny_tokenizer(), context=budget.context, tokens=total, seed=budget.seed
        )
        return blocks[budget.blocks :]
