"""An `uptrain` declaration -> a trained child's checkpoint directory: the untrained child's files with new values.

Guaranteed before: the program is checked; `child_dir` is a realised child of the parent in `parent_dir`. Both models are whole
on their device, or cut over the processes straight from their files. Means by which the training fits into memory are chosen from
the memory plan before anything is loaded: from the cheapest, recomputed layers and smaller micro-batches, to the child's state in
the host's memory.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from puzzledsl.alternatives.shape import Shape
from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.base.files import appearing, sha256_of
from puzzledsl.base.frozen import Record
from puzzledsl.base.progress import Progress
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.child.checkpoint.contents import child_config, load_child, write_safetensors
from puzzledsl.child.healing.walk import blocks_read
from puzzledsl.data.streams import TokenRows, rows_behind, token_rows
from puzzledsl.ir.base import span_of
from puzzledsl.ir.nodes import Data, Program, Uptrain
from puzzledsl.models.errors import NoRoomToUptrain, NoUptrainData, OtherVocabulary
from puzzledsl.models.families import load
from puzzledsl.models.families.access import base_shape_of, family_of, shape_of
from puzzledsl.models.families.stored import as_parameters
from puzzledsl.models.families.tensors import LazyTensor, open_file
from puzzledsl.models.placement import placement, this_device
from puzzledsl.models.precision.scales import settle
from puzzledsl.plan.memory.stage_plan import Device, StagePlan, tiles
from puzzledsl.plan.memory.stages import UptrainChoice, UptrainSizes, uptrain_plan
from puzzledsl.uptrain.model import Student, Teacher, in_bf16, prepare_training
from puzzledsl.uptrain.ranks import (
    SINGLE_PROCESS,
    Ranks,
    Sharding,
    fill,
    gathered_when_read,
    join,
    join_alone,
    leave,
    shard,
)
from puzzledsl.uptrain.state import TrainingProgress
from puzzledsl.uptrain.train import Trainer, schedule_for

MOST_PROCESSES = 4096


def means_for(
    declaration: Uptrain, parent_dir: Path, child_dir: Path, device: torch.device, ranks: Ranks
) -> UptrainChoice:
    """Return the means (micro-batch, recomputing, offload) by which training fits. Raises DiagnosticError (NoRoomToUptrain)."""
    child, parent = _child_shape(child_dir), shape_of(load.load_config(parent_dir))
    dtype = torch.bfloat16 if declaration.dtype == "bf16" and device.type == "cuda" else torch.float32
    here, together = this_device(device, dtype), ranks.world // ranks.nodes
    here = replace(here.shared_by(together), host_bytes=here.host_bytes // together, count=ranks.world)
    sizes = UptrainSizes(declaration, child, parent)
    if not here.is_gpu:  # its sums depend on the micro-batch, which therefore does not depend on free memory
        usual = max(1, tiles("cpu").training_tokens // declaration.context)
        sizes = sizes.at(declaration.micro_batch or usual)
    means = chosen(sizes, here)
    if means is None:
        raise DiagnosticError(_no_room(declaration, sizes, here))
    return means


def _child_shape(directory: Path) -> Shape:
    """Return a child's shape; that of its base family's model for a child with sub-blocks that no parent can have."""
    config = load.load_config(directory)
    try:
        return shape_of(config)
    except DiagnosticError:
        return base_shape_of(config)


def chosen(sizes: UptrainSizes, device: Device) -> UptrainChoice | None:
    """Return the plan's choice of means; None if none fits. On a CPU, `micro_blocks` is 0: as many as reach full speed."""
    plan, choice = uptrain_plan(sizes, device)
    if not _fits(plan, device):
        return None
    if device.is_gpu and sizes.declaration.micro_batch is None:
        # no more tokens at a time than a GPU needs for its speed
        most = max(1, tiles("cuda").training_tokens // sizes.declaration.context)
        sizes = sizes.at(min(choice.micro_blocks, most))
        plan, choice = uptrain_plan(sizes, device)
    return choice if device.is_gpu else replace(choice, micro_blocks=0)


def _fits(plan: StagePlan, device: Device) -> bool:
    """True if the plan fits: into a GPU's usable memory and the host's; or into a CPU's free memory, all of which may be used."""
    return plan.fits(device) if device.is_gpu else plan.peak_bytes <= device.memory_bytes


def in_words(means: UptrainChoice) -> str:
    """Return what is done to save memory, in words; an empty text if nothing is."""
    words = {
        "layers are computed twice": means.recompute,
        "the child's weights, gradients and moments are in the host's memory": means.offload,
    }
    return ", ".join(text for text, done in words.items() if done)


def _no_room(declaration: Uptrain, sizes: UptrainSizes, device: Device) -> Diagnostic:
    least, _ = uptrain_plan(sizes, device)
    on_host = device.is_gpu and least.host_bytes > device.host_bytes
    needed, room = (
        (least.host_bytes, device.host_bytes)
        if on_host
        else (least.peak_bytes, device.usable_bytes if device.is_gpu else device.memory_bytes)
    )
    return NoRoomToUptrain(
        span_of(declaration.where),
        name=declaration.name,
        needed=format_quantity(needed, BYTES),
        where="GPU memory" if device.is_gpu and not on_host else "memory",
        processes=device.count,
        room=format_quantity(room, BYTES),
        help=_more(sizes, device),
    )


def _more(sizes: UptrainSizes, device: Device) -> str:
    """Return the help: how many processes like this one would do."""
    count = device.count
    while (count := 2 * count) <= MOST_PROCESSES:
        larger = replace(device, count=count)
        if _fits(uptrain_plan(sizes, larger)[0], larger):
            return (
                f"use {count} processes like this one: "
                f"`torchrun --nproc-per-node {count} -m puzzledsl.cli.main uptrain`, or several machines"
            )
    return "distil a smaller child, or use larger machines"


def sharding_of(means: UptrainChoice, ranks: Ranks, device: torch.device, *, bf16: bool) -> Sharding | None:
    """Return how the models are cut; None: they are whole, on the device of the only process."""
    if ranks.world == 1 and not means.offload:
        return None
    if ranks.world == 1:
        join_alone()
    return Sharding(ranks, device, bf16, means.offload)


def models(
    parent_dir: Path,
    child_dir: Path,
    device: torch.device,
    parent_dtype: torch.dtype,
    sharding: Sharding | None,
    *,
    bf16: bool,
) -> tuple[Teacher, Student]:
    """Read both models, or this process's parts of them. The child is float32, in which small steps add up.

    The parent is bfloat16 where products are: on a GPU, and where it is gathered in that dtype anyway. Collective if sharded.
    Raises DiagnosticError: those of `load_parent` and `load_child`.
    """
    if bf16 and (sharding is not None or device.type == "cuda"):
        parent_dtype = torch.bfloat16
    if sharding is None:
        parent = load.load_parent(parent_dir, dtype=parent_dtype, device=device)
        return Teacher(parent), Student(load_child(child_dir, dtype=torch.float32, device=device))
    teacher = Teacher(_bare(load.load_config(parent_dir), parent_dtype, sharding))
    student = Student(_bare(child_config(child_dir), torch.float32, sharding))
    prepare_training(student.model, scales=False)
    for module, directory in ((teacher, parent_dir), (student, child_dir)):
        shard(module, sharding)
        offloaded = sharding.offload and module is student
        home = torch.device("cpu") if offloaded else sharding.device
        config = module.model.config
        fill(module, as_parameters(load.weights_in(directory, config), family_of(config)), home)
    return teacher, student


def _bare(config: PreTrainedConfig, dtype: torch.dtype, sharding: Sharding) -> PreTrainedModel:
    """Return a model whose weights have no storage, all of them in `dtype`; what is computed from the config is there."""
    model = load.empty_model(load.model_class_of(config), config, dtype, sharding.device)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.tie_weights()
    untyped: Any = model
    return cast(PreTrainedModel, untyped.eval().requires_grad_(False))


def write_child(
    state: Mapping[str, LazyTensor], child_dir: Path, out_dir: Path, extra: Mapping[str, str]
) -> None:
    """Write `out_dir` as `child_dir` is (config, code, tokenizer, shards, dtypes), with the weights of `state`.

    Tensors are read one at a time. `extra`: further text files by name. The directory appears
    whole or not at all; an older one is replaced. Raises KeyError when the checkpoint holds a tensor that `state` has not.
    """
    with appearing(out_dir) as directory:
        for source in sorted(child_dir.iterdir()):
            if source.is_file() and source.suffix != ".safetensors":
                shutil.copyfile(source, directory / source.name)
        for name, weights in _files(state, child_dir):
            write_safetensors(weights, directory / name)
            (directory / name).chmod(0o644)
        for name, text in extra.items():
            (directory / name).write_text(text, encoding="utf-8")


def _files(state: Mapping[str, LazyTensor], child_dir: Path) -> Iterator[tuple[str, dict[str, LazyTensor]]]:
    """Yield the name of each file of weights with the new tensors in it, in the dtypes of the old ones."""
    for source in sorted(child_dir.glob("*.safetensors")):
        stored = open_file(source)
        yield source.name, {name: state[name].cast(tensor.dtype) for name, tensor in stored.items()}


METHOD = "6"  # raise it when training changes, so that unfinished work is not continued
HELDOUT_SHARE, HELDOUT_BLOCKS, HELDOUT_TOKENS = 16, 4, 16384
"""Held-out text: 1/16 of the budget, at least 4 blocks, at most 16Ki tokens."""
LEARNED_TOKENS = 1 << 18  # positions that are counted at a time


class UptrainInputs(Record):
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

    The loss is kld * KL(parent || child) + cosine * mean over layers of 1 - cos + lm * cross-entropy. All weights but quantised
    ones are trained. The weights written are the best of those evaluated on held-out blocks of the same data (at the start and up
    to five times since), so they are never worse there than the child that came in; with `keep = last` they are those after the
    last step, even if these are worse.

    Where there are several `ranks` each process calls this with the same arguments; both models are sharded over them, and
    rank 0 writes. Raises DiagnosticError.
    """
    ranks, progress = inputs.ranks, inputs.progress
    parent_dir, child_dir = inputs.parent_dir, inputs.child_dir
    join(ranks)
    declaration = inputs.program.uptrains[inputs.uptrain]
    data = _data(inputs.program, declaration)
    child, parent = child_config(child_dir).vocab_size, load.load_config(parent_dir).vocab_size
    if child != parent:
        span = span_of(declaration.where)
        raise DiagnosticError(OtherVocabulary(span, name=inputs.uptrain, child=child, parent=parent))
    steps, heldout, count = steps_of(declaration), heldout_blocks(declaration), blocks_wanted(declaration)
    blocks = ranks.from_first(lambda: _unread_blocks(inputs, data, count))
    device, parent_dtype = placement(parent_dir)
    declaration = _with_dtype(declaration, device, ranks, progress)
    means = ranks.from_first(lambda: means_for(declaration, parent_dir, child_dir, device, ranks))
    if words := in_words(means):
        progress.log("memory", text=f"uptraining: {words}")
    folder = inputs.work / ranks.from_first(lambda: _digest(declaration, blocks, parent_dir, child_dir))
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
        settle(student.model)
        state = gathered_when_read(student.model)
        if ranks.leads:
            text = json.dumps(record, indent=1, sort_keys=True) + "\n"
            write_child(state, child_dir, inputs.out_dir, {"uptrain.json": text})
            shutil.rmtree(inputs.work, ignore_errors=True)
        else:
            for _, weights in _files(state, child_dir):  # what rank 0 writes, in its order
                for weight in weights.values():
                    weight.read()
        ranks.barrier()
    finally:
        if ranks.world == 1:
            leave()


def _unread_blocks(inputs: UptrainInputs, data: Data, count: int) -> TokenRows:
    """Return `count` blocks behind those that pieces, scores and healing read; the first ones if the text is too short.

    A healed child's last maps are a least-squares fit: on the text that they were fitted to, its loss says nothing.
    """
    declaration, tokenizer = inputs.program.uptrains[inputs.uptrain], load.load_tokenizer(inputs.parent_dir)
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
            progress=inputs.progress,
        ).part(first)

    first = blocks_read(inputs.program, data.name, context, declaration.seed)
    warning = f"data `{data.name}` is too short to uptrain on text that the child was not made from"
    return rows_behind(first, read, inputs.progress, warning)


def steps_of(declaration: Uptrain) -> int:
    """Optimiser steps that the token budget pays for, at least one."""
    return max(1, declaration.tokens // (declaration.batch * declaration.context))


def blocks_wanted(declaration: Uptrain) -> int:
    """Blocks that are read: those kept apart and those trained on."""
    return heldout_blocks(declaration) + steps_of(declaration) * declaration.batch


def heldout_blocks(declaration: Uptrain) -> int:
    """Blocks kept apart from training; they come first, so that a larger budget keeps those of a smaller one."""
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
    """Return the declaration with a dtype of matrix products; if it names none, the faster one that is safe on rank 0."""
    bf16 = ranks.broadcast(in_bf16(device, declaration.dtype))
    dtype: Literal["bf16", "fp32"] = "bf16" if bf16 else "fp32"
    why = "as the program says" if declaration.dtype else f"the fastest that is safe on this {device.type}"
    progress.log("uptrain_dtype", text=f"uptraining multiplies in {dtype}, {why}", dtype=dtype)
    return declaration.model_copy(update={"dtype": dtype})


def _digest(declaration: Uptrain, blocks: TokenRows, parent_dir: Path, child_dir: Path) -> str:
    """Key of unfinished work: what is trained, on what, against what, and in which dtype."""
    meaning = declaration.model_dump_json(exclude={"where", "doc", "name"})
    weights = [sha256_of(p) for d in (parent_dir, child_dir) for p in sorted(d.glob("*.safetensors"))]
    parts = [METHOD, meaning, blocks.digest(), *weights]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _learned(blocks: TokenRows) -> dict[str, int]:
    """Return `learned_tokens`, the number of positions that losses counted; {} where they counted all."""
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
