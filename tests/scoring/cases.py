"""A program with its pieces made, and the figures of its children by whole forward passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from puzzledsl.alternatives.linear import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.progress import Silent
from puzzledsl.cluster.tasks import Executor
from puzzledsl.data.counts import Budget
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import LayerDefinition, ModelDefinition, ScoreTable
from puzzledsl.models.families.load import load_parent
from puzzledsl.plan.bld import bld_plan
from puzzledsl.scoring.run import ScoreInputs, run_score
from tests.assembled import assemble
from tests.blocks import token_blocks
from tests.interrupting import Interrupting
from tests.pieces.train.bld_programs import make_pieces, make_program
from tests.tiny import tiny_tokenizer

PARENT: tuple[Any, Any] = (ParentAttention(), ParentFfn())
DROPPED: tuple[Any, Any] = (NoOpAttention(), NoOpFfn())


class ElsewhereHere(Executor):
    """Teams in this process that are taken for remote ones."""

    is_local = False


class Case:
    """A program with its pieces made."""

    def __init__(self, base: Path, program: nodes.Program) -> None:
        self.base, self.program, self.jobs = base, program, bld_plan(program, "b")
        self.library = make_pieces(program, base)

    @classmethod
    def of(cls, base: Path, family: str = "llama", **given: Any) -> Case:
        """A program that makes pieces quickly, with some settings."""
        usual = {"tokens": 64, "calibration_tokens": 128}
        return cls(base, make_program(base, family, **usual | given))

    def inputs(self, work: str = "score", **method: Any) -> ScoreInputs:
        """Inputs of the program's own score, or of one with this method."""
        program = self.program
        if method:
            score = program.scores["s"].model_copy(update={"method": nodes.ReplaceOne(**method)})
            program = program.model_copy(update={"scores": {"s": score}})
        given = (program, "s", self.base / "parent", self.base, self.library, self.jobs)
        return ScoreInputs(*given, self.base / work, Silent())

    def score(self, work: str = "score", **method: Any) -> ScoreTable:
        return run_score(self.inputs(work, **method))

    def anew(self, **method: Any) -> ScoreTable:
        """The scores, no figure of which is known."""
        self.forget()
        return self.score(**method)

    def kept(self) -> list[Path]:
        """The files of figures that were measured."""
        return list((self.base / "build" / "scores" / "figures").glob("*"))

    def forget(self) -> None:
        for path in self.kept():
            path.unlink()

    def interrupted(self, after: int) -> None:
        """Measure until so many replacements are done."""
        with pytest.raises(KeyboardInterrupt):
            run_score(replace(self.inputs("cut"), progress=Interrupting(after - 1)))

    def naive(self, layer: int, attention: Any, ffn: Any, samples: int) -> dict[str, float]:
        """All three figures of one replacement in the parent."""
        layers = [PARENT] * self.program.parents["p"].shape.layers
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
        parent, tokens = load_parent(self.base / "parent"), self.tokens(samples)
        child = self.assembled(layers)
        states = [m(tokens, output_hidden_states=True, use_cache=False) for m in (parent, child)]
        hp, hq = (s.hidden_states[-1].double().flatten(0, 1)[:samples] for s in states)
        cosine = float((1 - F.cosine_similarity(hp, hq, dim=-1)).mean())
        return divergences([s.logits for s in states], tokens, samples) | {"cosine": cosine}

    def assembled(self, layers: Sequence[tuple[Any, Any]]) -> PreTrainedModel:
        """A child as a whole model."""
        return assemble(load_parent(self.base / "parent"), self.child(layers), self.library.load)

    def tokens(self, samples: int) -> torch.Tensor:
        budget = Budget.of(self.program.blds["b"])
        count = -(-samples // budget.context)
        total = (budget.blocks + count) * budget.context
        data = self.program.data["mix"]
        given = {"context": budget.context, "tokens": total, "seed": budget.seed}
        return token_blocks(data, self.base, tiny_tokenizer(), **given)[budget.blocks :]


def divergences(logits: Sequence[torch.Tensor], tokens: torch.Tensor, samples: int) -> dict[str, float]:
    """KL divergence and difference of losses of a child, in float64, from the logits of the parent and the child."""
    p, q = (each.double().log_softmax(-1).flatten(0, 1)[:samples] for each in logits)
    following = F.pad(tokens[:, 1:], (0, 1), value=-1).flatten()[:samples]
    known = following >= 0
    return {
        "kl_divergence": float((p.exp() * (p - q)).sum(-1).mean()),
        "lm_loss": float((p - q)[known, following[known]].mean()),
    }
