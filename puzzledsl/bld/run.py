"""`pzl bld`: every job's piece, made in one sweep up the parent's layers.

For each layer: calibration statistics -> initial weights of all its pieces -> one forward pass of the parent's layer
feeds them all -> the block library. Hidden states of calibration, training and held-out tokens move up one layer at a
time, so the parent runs once whatever the number of jobs. Training on other hardware, or with another number of
threads, gives other bytes; being killed and started again does not.

The stage before guarantees that jobs are those of one BLD declaration of the program.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.bld.errors import NoScratchSpace, NoTrainingText
from puzzledsl.bld.sweep import sweep
from puzzledsl.bld.training import Outcome
from puzzledsl.data.blocks import token_blocks
from puzzledsl.data.budget import Budget
from puzzledsl.data.errors import span_of
from puzzledsl.diagnostics import DiagnosticError
from puzzledsl.files import write_text
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import BldJob
from puzzledsl.layout import BuildDir
from puzzledsl.library.library import Library
from puzzledsl.library.origin import origin
from puzzledsl.modeling.placement import reachable_parent
from puzzledsl.parents.access import shape_of
from puzzledsl.parents.load import check_tokens, load_tokenizer
from puzzledsl.progress import Progress
from puzzledsl.units import BYTES, format_quantity


def run_bld(
    program: nodes.Program,
    bld: str,
    jobs: Sequence[BldJob],
    parent_dir: Path,
    base: Path,
    library: Library,
    work: Path,
    progress: Progress,
) -> None:
    """Make the pieces of `jobs` that the library lacks, and leave its index canonical.

    Pieces are trained for `tokens / (context * batch)` steps and keep the better of their initial and trained weights
    on held-out tokens; linear sub-blocks initialised by least squares are already optimal and are not trained. `work`
    holds what an interrupted run needs to go on, and is removed at the end; `base` is where data paths start.
    Raises DiagnosticError: missing or too little text, checkpoints that cannot be read, alternatives that cannot be made.
    """
    if not jobs:
        library.finish()
        return
    declaration = program.blds[bld]
    budget = _one_budget(jobs)
    tokens = _text(program, declaration, budget, parent_dir, base, library)
    made_from = origin(parent_dir, tokens)
    todo = [job for job in jobs if not library.has(job.id, made_from)]
    progress.start(f"bld {bld}", len(jobs))
    progress.advance(len(jobs) - len(todo))
    if todo:
        model = reachable_parent(parent_dir, progress, once=True)
        _prepare_work(declaration, work, tokens, budget, made_from, model)
        init = program.spaces[declaration.space].init
        sweep(
            model,
            budget,
            tokens,
            init,
            todo,
            work,
            keep=partial(_keep, library, made_from, budget, model.dtype, progress),
        )
    library.finish()
    shutil.rmtree(work, ignore_errors=True)


def _one_budget(jobs: Sequence[BldJob]) -> Budget:
    budgets = {Budget.of(job) for job in jobs}
    if len(budgets) != 1:
        raise ValueError("the jobs of one bld have one token budget")
    return budgets.pop()


def _text(
    program: nodes.Program,
    declaration: nodes.Bld,
    budget: Budget,
    parent_dir: Path,
    base: Path,
    library: Library,
) -> Tensor:
    """Calibration, training and held-out blocks, in this order, [N, S]."""
    if declaration.data is None:
        raise DiagnosticError(NoTrainingText(span_of(declaration.where), name=declaration.name))
    tokens = token_blocks(
        program.data[declaration.data],
        base,
        load_tokenizer(parent_dir),
        context=budget.context,
        tokens=budget.blocks * budget.context,
        seed=budget.seed,
        cache=BuildDir(library.root.parent).tokens,
    )
    check_tokens(parent_dir, tokens)
    return tokens


def _prepare_work(
    declaration: nodes.Bld,
    work: Path,
    tokens: Tensor,
    budget: Budget,
    made_from: dict[str, str],
    model: PreTrainedModel,
) -> None:
    """Keep what `work` holds only if it comes from the same parent, text, budget and arithmetic.

    Raises DiagnosticError when the disk is too full for the activations.
    """
    key = f"{made_from}\n{budget}\n{model.device.type} {model.dtype}\n"
    stamp = work / "made_from.txt"
    if stamp.is_file() and stamp.read_text() == key:
        return
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    width = shape_of(model.config).hidden * model.dtype.itemsize
    needed, free = 2 * tokens.numel() * width, shutil.disk_usage(work).free
    if needed > free:
        raise DiagnosticError(
            NoScratchSpace(
                span_of(declaration.where),
                name=declaration.name,
                work=work,
                needed=format_quantity(Fraction(needed), BYTES),
                free=format_quantity(Fraction(free), BYTES),
            )
        )
    write_text(stamp, key)


def _keep(
    library: Library,
    made_from: dict[str, str],
    budget: Budget,
    dtype: torch.dtype,
    progress: Progress,
    outcome: Outcome,
) -> None:
    """Put a finished piece into the library, with weights in the parent's dtype."""
    job = outcome.student.job
    tensors = {name: tensor.to(dtype) for name, tensor in outcome.weights.items()}
    trained = budget.training * budget.context if outcome.loss_trained is not None else 0
    library.put(job, tensors, outcome.loss_initial, outcome.loss_final, trained, made_from)
    progress.advance(layer=job.layer, loss=outcome.loss_final)
    losses = {"loss_initial": outcome.loss_initial, "loss_trained": outcome.loss_trained}
    progress.log(
        "piece", id=job.id, layer=job.layer, kept="trained" if outcome.improved else "initial", **losses
    )
