"""`pzl score`: replace one block of the parent at a time, and measure how much worse it gets (Puzzle, section 4.2).

Hidden states move up the parent's layers once; each replacement runs only the layers from its own to the last, and is
compared with the parent's log-probabilities, which are made once. Being killed and started again gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.data.blocks import token_blocks
from puzzledsl.data.budget import Budget
from puzzledsl.data.errors import NotEnoughText, span_of
from puzzledsl.data.tasks import encode_choice, read_tasks
from puzzledsl.diagnostics import DiagnosticError
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import BldJob, ScoreTable
from puzzledsl.layout import BuildDir
from puzzledsl.library.library import Library
from puzzledsl.library.origin import origin
from puzzledsl.modeling.layerwise import LayerRunner
from puzzledsl.modeling.placement import placement
from puzzledsl.parents.load import load_parent, load_tokenizer
from puzzledsl.progress import Progress
from puzzledsl.scoring.errors import NoScoringText, NotScoredYet
from puzzledsl.scoring.measures import Accuracy, Divergence, Measure
from puzzledsl.scoring.partial import Partial
from puzzledsl.scoring.replacements import Replacement, replacements


def run_score(
    program: nodes.Program,
    score: str,
    parent_dir: Path,
    base: Path,
    library: Library,
    jobs: Sequence[BldJob],
    work: Path,
    progress: Progress,
) -> ScoreTable:
    """The score table of a replace-1-block score: nats for `kl_divergence` and `lm_loss`, a drop for `accuracy`.

    `jobs` are those of the score's BLD, whose pieces are in `library`; the parent is not in the table (it is 0).
    `samples` counts scored token positions; text comes from behind what the BLD was trained on, where there is enough.
    Raises DiagnosticError: missing pieces, missing or too little text, ways of scoring that are not known.
    """
    declaration = program.scores[score]
    method = declaration.method
    if not isinstance(method, nodes.ReplaceOne) or declaration.bld is None:
        raise ValueError(f"score {score} is not measured, it is read from a table")
    _refuse_unknown(declaration, method)
    bld = program.blds[declaration.bld]
    unit: Literal["subblock", "block"] = "block" if bld.mode == "coupled" else method.unit
    todo = replacements(declaration, program.spaces[declaration.space], unit, jobs)

    device, dtype = placement(parent_dir)
    runner = LayerRunner(model := load_parent(parent_dir, dtype=dtype, device=device))
    measure = _measure(program, declaration, method, bld, runner, parent_dir, base, library, progress)
    inputs = _inputs(parent_dir, measure, method, library, todo)
    partial = Partial(work, json.dumps(inputs, sort_keys=True))
    progress.start(f"score {score}", len(todo))
    with torch.inference_mode():
        _Sweep(runner, measure, method.metric, partial, progress, model, library).run(todo)
    table = _table(score, method, unit, measure, len(runner), todo, partial, inputs)
    shutil.rmtree(work, ignore_errors=True)
    return table


def _refuse_unknown(declaration: nodes.Score, method: nodes.ReplaceOne) -> None:
    for feature, wanted in (("pairwise", method.pairwise), ("around", method.around is not None)):
        if wanted:
            raise DiagnosticError(
                NotScoredYet(span_of(declaration.where), score=declaration.name, feature=feature)
            )


# ---------------------------------------------------------------- what is measured, and on what


def _measure(
    program: nodes.Program,
    declaration: nodes.Score,
    method: nodes.ReplaceOne,
    bld: nodes.Bld,
    runner: LayerRunner,
    parent_dir: Path,
    base: Path,
    library: Library,
    progress: Progress,
) -> Measure:
    tokenizer = load_tokenizer(parent_dir)
    if method.metric == "accuracy":
        items = read_tasks(base / (method.tasks or ""), method.samples, span=span_of(declaration.where))
        encoded = [
            [encode_choice(tokenizer, item.context, choice) for choice in item.choices] for item in items
        ]
        return Accuracy(runner, items, encoded)
    data = method.data or bld.data
    if data is None:
        raise DiagnosticError(NoScoringText(span_of(declaration.where), score=declaration.name))
    behind = data == bld.data
    cache = BuildDir(library.root.parent).tokens
    tokens = _text(program.data[data], base, tokenizer, method, bld, behind, cache, progress)
    return Divergence(runner, tokens, method.samples)


def _text(
    data: nodes.Data,
    base: Path,
    tokenizer: Any,
    method: nodes.ReplaceOne,
    bld: nodes.Bld,
    behind: bool,
    cache: Path,
    progress: Progress,
) -> Tensor:
    """Enough blocks for `samples` positions, [N, S]: those behind the BLD's own where `behind` and there are enough."""
    budget = Budget.of(bld)
    spare = 1 if method.metric == "lm_loss" else 0  # a block's last token has no known successor
    blocks = -(-method.samples // (budget.context - spare))
    skipped = budget.blocks if behind else 0

    def read(first: int) -> Tensor:
        count = first + blocks
        return token_blocks(
            data,
            base,
            tokenizer,
            context=budget.context,
            tokens=count * budget.context,
            seed=bld.seed,
            cache=cache,
        )[first:]

    try:
        tokens = read(skipped)
    except DiagnosticError as error:
        if not skipped or not isinstance(error.diagnostics[0], NotEnoughText):
            raise
        progress.log(
            "warning", text=f"data `{data.name}` is too short to score on text that was not trained on"
        )
        tokens = read(0)
    return tokens[:, : method.samples + spare] if blocks == 1 else tokens


def _inputs(
    parent_dir: Path,
    measure: Measure,
    method: nodes.ReplaceOne,
    library: Library,
    todo: Sequence[Replacement],
) -> dict[str, str]:
    """Digests of all that a table depends on."""
    tokens = torch.cat([group.flatten() for group in measure.groups])
    pieces = {piece.job.id: piece.sha256 for piece in library.pieces()}
    parts = [[r.layer, r.table, r.name, *(pieces.get(p or "", "") for _, _, p in r.parts)] for r in todo]
    described = f"{method.model_dump_json()} {parts}"
    return {**origin(parent_dir, tokens), "replacements": hashlib.sha256(described.encode()).hexdigest()}


# ---------------------------------------------------------------- the sweep


class _Sweep:
    """One pass up the parent's layers; each replacement branches off at its own."""

    def __init__(
        self,
        runner: LayerRunner,
        measure: Measure,
        metric: str,
        partial: Partial,
        progress: Progress,
        model: PreTrainedModel,
        library: Library,
    ) -> None:
        self.runner, self.measure, self.metric, self.partial = runner, measure, metric, partial
        self.progress, self.model, self.library = progress, model, library

    def run(self, todo: Sequence[Replacement]) -> None:
        """Measure what is not measured yet."""
        entering = [self.runner.embed(tokens.to(self.runner.device)) for tokens in self.measure.groups]
        self.measure.set_parent(self._leaving(0, entering))
        for layer_idx in range(len(self.runner)):
            for replacement in todo:
                if replacement.layer == layer_idx:
                    self._one(replacement, entering)
            entering = [self.runner.run_layer(layer_idx, hidden) for hidden in entering]

    def _one(self, replacement: Replacement, entering: Sequence[Tensor]) -> None:
        name = (replacement.layer, replacement.table, replacement.name)
        if name not in self.partial.figures:
            with replacement.applied(self.model, self.library):
                normed = self._leaving(replacement.layer, entering)
            self.partial.add(name, self.measure.figures(normed))
        figure = self.partial.figures[name][self.metric]
        self.progress.advance(layer=replacement.layer, alternative=replacement.name, score=figure)

    def _leaving(self, layer_idx: int, entering: Sequence[Tensor]) -> list[Tensor]:
        """The normed final hidden states, from those that enter a layer."""
        return [self.runner.final_norm(self.runner.run_suffix(layer_idx, hidden)) for hidden in entering]


def _table(
    score: str,
    method: nodes.ReplaceOne,
    unit: Literal["subblock", "block"],
    measure: Measure,
    layers: int,
    todo: Sequence[Replacement],
    partial: Partial,
    inputs: dict[str, str],
) -> ScoreTable:
    tables: dict[str, list[dict[str, float]]] = {
        name: [{} for _ in range(layers)] for name in ("attention", "ffn", "pairs")
    }
    for r in todo:
        tables[r.table][r.layer][r.name] = partial.figures[r.layer, r.table, r.name][method.metric]
    filled = ("pairs",) if unit == "block" else ("attention", "ffn")
    return ScoreTable(
        score=score,
        metric=method.metric,
        samples=measure.samples(),
        unit=unit,
        inputs=inputs,
        attention=tuple(tables["attention"]) if "attention" in filled else (),
        ffn=tuple(tables["ffn"]) if "ffn" in filled else (),
        pairs=tuple(tables["pairs"]) if "pairs" in filled else (),
    )
