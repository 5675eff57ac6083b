"""An `uptrain` declaration -> a trained child's checkpoint directory.

Guaranteed before: the program is checked; `child_dir` is a realised child of the parent in `parent_dir`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import sha256_of
from puzzledsl.base.progress import Progress
from puzzledsl.child.healing.text import blocks_read
from puzzledsl.child.load import child_config
from puzzledsl.data.blocks import token_rows
from puzzledsl.data.errors import NotEnoughText
from puzzledsl.data.rows import TokenRows
from puzzledsl.ir.base import span_of
from puzzledsl.ir.nodes import Data, Program, Uptrain
from puzzledsl.models.families.load import load_config, load_tokenizer
from puzzledsl.models.placement import placement
from puzzledsl.uptrain.errors import NoLoss, NoUptrainData, OtherVocabulary
from puzzledsl.uptrain.means import in_words, means_for
from puzzledsl.uptrain.model import in_bf16
from puzzledsl.uptrain.opening import models, sharding_of
from puzzledsl.uptrain.output import read_along, write_child
from puzzledsl.uptrain.ranks import SINGLE_PROCESS, Ranks, join, leave
from puzzledsl.uptrain.shard import gathered_when_read
from puzzledsl.uptrain.state import TrainingProgress
from puzzledsl.uptrain.train import Trainer, schedule_for

METHOD = "4"  # raise it when training changes, so that unfinished work is not continued
HELDOUT_SHARE, HELDOUT_BLOCKS, HELDOUT_TOKENS = (
    16,
    4,
    16384,
)  # 1/16 of the budget, at least 4 blocks, at most 16Ki tokens
LEARNED_TOKENS = 1 << 18  # positions that are counted at a time


@dataclass(frozen=True)
class UptrainInputs:
    """Inputs of one uptraining: `child_dir` is trained against `parent_dir`, and written to `out_dir`.

    Relative data paths start at `base`; `cache` holds tokenised text. Interrupted, training goes on from `work`, which is
    removed at the end.
    """

    program: Program
    uptrain: str
    parent_dir: Path
    child_dir: Path
    out_dir: Path
    base: Path
    work: Path
    cache: Path
    progress: Progress
    ranks: Ranks = SINGLE_PROCESS


def run_uptrain(inputs: UptrainInputs) -> None:
    """Train the child against its parent by global knowledge distillation (Puzzle, section 3).

    The loss is kld * KL(parent || child) + cosine * mean over layers of 1 - cos + lm * cross-entropy. All weights are
    trained. The weights written are the best of those evaluated on held-out blocks of the same data (at the start and
    five times since), so they are never worse there than the child that came in; with `keep = last` they are those after the
    last step, whatever they are worth. With `ema`, the weights that are evaluated are the average.

    Where there are several `ranks` each process calls this with the same arguments; both models are sharded over them, and
    rank 0 writes. Raises DiagnosticError.
    """
    ranks, progress, parent_dir, child_dir = (
        inputs.ranks,
        inputs.progress,
        inputs.parent_dir,
        inputs.child_dir,
    )
    join(ranks)
    declaration = inputs.program.uptrains[inputs.uptrain]
    data = _data(inputs.program, declaration)
    if declaration.kld == declaration.cosine == declaration.lm == 0:
        raise DiagnosticError(NoLoss(span_of(declaration.where), name=inputs.uptrain))
    _check_vocabularies(inputs, declaration)
    steps, heldout, count = steps_of(declaration), heldout_blocks(declaration), blocks_of(declaration)
    blocks = ranks.from_first(lambda: _unread_blocks(inputs, data, count))
    device, parent_dtype = placement(parent_dir)
    declaration = _with_dtype(declaration, device, ranks, progress)
    means = ranks.from_first(lambda: means_for(declaration, parent_dir, child_dir, device, ranks))
    if words := in_words(means):
        progress.log("memory", text=f"uptraining: {words}")
    key = (means.eight_bit, ranks.world) if means.eight_bit else ()
    folder = inputs.work / ranks.from_first(lambda: _digest(declaration, blocks, parent_dir, child_dir, *key))
    bf16 = declaration.dtype == "bf16"
    sharding = sharding_of(means, ranks, device, bf16=bf16)
    teacher, student = models(parent_dir, child_dir, device, parent_dtype, sharding, bf16=bf16)
    try:
        trainer = Trainer(
            declaration,
            teacher,
            student,
            blocks.part(heldout),
            blocks.part(0, heldout),
            folder,
            progress,
            sharding=sharding,
            means=means,
        )
        record = _record(declaration, steps, heldout, trainer.run()) | _learned(blocks.part(heldout))
        progress.log("uptrained", **record)
        del trainer  # its moments, before the weights are gathered
        state = gathered_when_read(student.model)
        if ranks.leads:
            text = json.dumps(record, indent=1, sort_keys=True) + "\n"
            write_child(state, child_dir, inputs.out_dir, {"uptrain.json": text})
            shutil.rmtree(inputs.work, ignore_errors=True)
        else:
            read_along(state, child_dir)
        ranks.barrier()
    finally:
        if ranks.world == 1:
            leave()


def _check_vocabularies(inputs: UptrainInputs, declaration: Uptrain) -> None:
    """Raise DiagnosticError (OtherVocabulary) if parent and child predict different tokens."""
    child, parent = child_config(inputs.child_dir).vocab_size, load_config(inputs.parent_dir).vocab_size
    if child != parent:
        span = span_of(declaration.where)
        raise DiagnosticError(OtherVocabulary(span, name=inputs.uptrain, child=child, parent=parent))


def _unread_blocks(inputs: UptrainInputs, data: Data, count: int) -> TokenRows:
    """So many blocks behind those that pieces, scores and healing read; the first ones where the text is too short.

    A healed child's last maps are a least-squares fit: on the text that they were fitted to, its loss says nothing.
    """
    declaration, tokenizer = inputs.program.uptrains[inputs.uptrain], load_tokenizer(inputs.parent_dir)
    context = declaration.context

    def read(first: int) -> TokenRows:
        tokens, seed = (first + count) * context, declaration.seed
        return token_rows(
            data,
            inputs.base,
            tokenizer,
            context=context,
            tokens=tokens,
            seed=seed,
            cache=inputs.cache,
            scratch=inputs.work,
            progress=inputs.progress,
        ).part(first)

    first = blocks_read(inputs.program, data.name, context, declaration.seed)
    try:
        return read(first)
    except DiagnosticError as error:
        if not first or not isinstance(error.diagnostics[0], NotEnoughText):
            raise
        text = f"data `{data.name}` is too short to uptrain on text that the child was not made from"
        inputs.progress.log("warning", text=text)
        return read(0)


def steps_of(declaration: Uptrain) -> int:
    """Optimiser steps that the token budget pays for, at least one."""
    return max(1, declaration.tokens // (declaration.batch * declaration.context))


def blocks_of(declaration: Uptrain) -> int:
    """Blocks that are read: those kept apart and those trained on."""
    return heldout_blocks(declaration) + steps_of(declaration) * declaration.batch


def heldout_blocks(declaration: Uptrain) -> int:
    """Blocks kept apart from training; they come first, so that they do not depend on the budget's size."""
    wanted = min(declaration.tokens // HELDOUT_SHARE, HELDOUT_TOKENS) // declaration.context
    return max(HELDOUT_BLOCKS, wanted)


def _data(program: Program, declaration: Uptrain) -> Data:
    if declaration.data is not None:
        return program.data[declaration.data]
    if len(program.data) == 1:
        return next(iter(program.data.values()))
    known = ", ".join(program.data) or "(declare one with `data NAME = text(…)`)"
    raise DiagnosticError(NoUptrainData(span_of(declaration.where), name=declaration.name, known=known))


def _with_dtype(declaration: Uptrain, device: torch.device, ranks: Ranks, progress: Progress) -> Uptrain:
    """The declaration with the dtype of matrix products settled: one that is left out depends on the machine, rank 0's."""
    bf16 = ranks.broadcast(in_bf16(device, declaration.dtype))
    dtype: Literal["bf16", "fp32"] = "bf16" if bf16 else "fp32"
    why = "as the program says" if declaration.dtype else f"the fastest that is safe on this {device.type}"
    progress.log("uptrain_dtype", text=f"uptraining multiplies in {dtype}, {why}", dtype=dtype)
    return declaration.model_copy(update={"dtype": dtype})


def _digest(
    declaration: Uptrain, blocks: TokenRows, parent_dir: Path, child_dir: Path, *means: object
) -> str:
    """Key of unfinished work: what is trained, on what, against what, in which dtype, and `means` that change its numbers."""
    meaning = declaration.model_dump_json(exclude={"where", "doc", "name"})
    weights = [sha256_of(p) for d in (parent_dir, child_dir) for p in sorted(d.glob("*.safetensors"))]
    parts = [METHOD, meaning, blocks.digest(), *weights, *map(str, means)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _learned(blocks: TokenRows) -> dict[str, int]:
    """The number of positions that losses counted, where they did not count all."""
    if not blocks.masked:
        return {}
    step = max(1, LEARNED_TOKENS // blocks.context)
    parts = (blocks.learned(slice(first, first + step)) for first in range(0, len(blocks), step))
    return {"learned_tokens": sum(int(part.sum()) for part in parts if part is not None)}


def _record(declaration: Uptrain, steps: int, heldout: int, done: TrainingProgress) -> dict[str, object]:
    kept = steps if declaration.keep == "last" else done.best_step
    return {
        "uptrain": declaration.name,
        "dtype": declaration.dtype,
        "peak_rate": schedule_for(declaration, done.heldout[0]).peak,
        "steps": steps,
        "tokens": steps * declaration.batch * declaration.context,
        "heldout_tokens": heldout * declaration.context,
        "heldout_kl": {str(step): kl for step, kl in sorted(done.heldout.items())},
        "heldout_kl_before": done.heldout[0],
        "heldout_kl_after": done.heldout[kept],
        "best_step": kept,
    }
