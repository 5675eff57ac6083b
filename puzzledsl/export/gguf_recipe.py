"""Write a child as a GGUF file by a whole-file recipe: unquantised first, then quantised by llama.cpp itself.

llama.cpp runs in a process of its own, because a failed assertion there ends the process. Its quantisers weigh the error of
each number of a row by an importance matrix, the mean square of each input on text (its tools/imatrix). The text is what
healing fits to: nothing is judged on it.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from threading import local
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from puzzledsl.alternatives.support import Architecture
from puzzledsl.base.diagnostics import DiagnosticError, RecipeOfQuantised
from puzzledsl.base.files import beside, make_directory, replacing
from puzzledsl.base.frozen import Record
from puzzledsl.base.progress import Progress, Silent
from puzzledsl.child.checkpoint.contents import ChildFiles, load_checkpoint
from puzzledsl.child.definition import MissingPackage, RecipeFailed
from puzzledsl.export.engines.ask import Session, SessionFailed, python_of
from puzzledsl.export.gguf_file import GgufDtype, as_llama_cpp, place_of, refuse_to_overwrite, write_gguf
from puzzledsl.export.gguf_tokenizer import tensors_of
from puzzledsl.ir.measured_engines import Recipe
from puzzledsl.models.families.access import read_by_head
from puzzledsl.models.machine import Workers
from puzzledsl.models.placement import is_paged
from puzzledsl.plan.memory.stages import AT_ONCE

SOURCES: Mapping[torch.dtype, GgufDtype] = {torch.float16: "f16", torch.bfloat16: "bf16"}
"""Types of the file that llama.cpp quantises: the child's own; float32 for others."""
LARGEST_BITS = 8.5
"""Bits of a weight in the largest type that a recipe falls back to (q8_0)."""
WHOLE = 256
"""Numbers of a block of the K types."""
_TENSOR = re.compile(r"^\[\s*(\d+)/\s*(\d+)\]")


class Stored(Record):
    """Counts of a file's matrices by storage type; `other`: of those in larger types, since their rows are no whole blocks.

    `text`: both, as a sentence for the log.
    """

    types: Mapping[str, int]
    other: Mapping[str, int]
    text: str


def write_recipe(
    child: ChildFiles,
    tokenizer_dir: Path,
    path: Path,
    recipe: Recipe,
    *,
    name: str,
    progress: Progress | None = None,
    importance: Importance | None = None,
    head: str = "",
    unquantised: Path | None = None,
) -> Stored:
    """Write the child to `path`, with its tokenizer, in the types that llama.cpp's recipe chooses; return these types.

    `importance`: of the inputs of its matrices. `head`: the type of embedding and head, where the recipe does not choose it.
    `unquantised`: a place for the child's unquantised file, which is left there for its next recipe.

    Raises DiagnosticError: RecipeOfQuantised, MissingPackage, RecipeFailed, and those of `write_gguf`. Raises OSError (ENOSPC),
    before anything is written, if the disk has no room for the unquantised file beside the result.
    """
    progress = progress or Silent()
    _refuse(child, recipe)
    refuse_to_overwrite(path)
    make_directory(path.parent)
    dtype = SOURCES.get(child.dtype, "f32")
    _ask_for_room(child, path)
    with beside(path, folder=True) as folder:
        source = unquantised or folder / "unquantised.gguf"
        if not source.exists():
            write_gguf(child, tokenizer_dir, source, dtype, name=name, whole_blocks=True)
        arrays: Any = in_file(importance or {}, *as_llama_cpp(child, whole_blocks=True))
        np.savez(folder / "importance.npz", **arrays)
        with replacing(path) as temporary:
            _quantise(source, temporary, folder / "importance.npz", recipe, progress, head)
            return stored(temporary, recipe)


def _refuse(child: ChildFiles, recipe: Recipe) -> None:
    """Raise DiagnosticError if sub-blocks of the child have storage types already, or if llama.cpp is not installed."""
    own = dict.fromkeys(part.dtype for layer in child.layers for part in layer if part.dtype is not None)
    if own:
        types = ", ".join(f"`{name}`" for name in own)
        raise DiagnosticError(RecipeOfQuantised(None, recipe=recipe.name, types=types))
    if python_of("llama_cpp") is None:
        what = f"`dtype: {recipe.name}`"
        raise DiagnosticError(MissingPackage(None, package="llama-cpp-py-sync", what=what, extra="runtimes"))


def _ask_for_room(child: ChildFiles, path: Path) -> None:
    """Raise OSError if the disk lacks room for the unquantised file and the largest that the recipe may give."""
    numbers = sum(torch.Size(weight.shape).numel() for weight in child.weights.values())
    unquantised = numbers * child.dtype.itemsize
    needed = unquantised + min(unquantised, int(numbers * LARGEST_BITS / 8))
    if shutil.disk_usage(path.parent).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _quantise(
    source: Path, target: Path, importance: Path, recipe: Recipe, progress: Progress, head: str
) -> None:
    """Run llama.cpp, and report each tensor of its log. Raises DiagnosticError (RecipeFailed)."""
    import gguf

    begun = False

    def hear(line: str) -> None:
        nonlocal begun
        if (match := _TENSOR.match(line)) is not None:
            if not begun:
                progress.start(f"quantising to {recipe.name}", int(match[2]))
                begun = True
            progress.advance()

    request = {
        "source": str(source.absolute()),
        "target": str(target.absolute()),
        "file_type": recipe.file_type,
        "threads": os.cpu_count() or 1,
        "importance": str(importance.absolute()),
        "head": int(gguf.GGMLQuantizationType[head.upper()]) if head else None,
    }
    try:
        with Session("llama_cpp", None, request) as session:
            session.ask({"op": "quantise", "request": request}, hear)
    except SessionFailed as error:
        raise DiagnosticError(RecipeFailed(None, recipe=recipe.name, reason=str(error))) from None


def stored(path: Path, recipe: Recipe) -> Stored:
    """Return the types of a file's matrices, the most frequent first."""
    matrices = [t for t in tensors_of(path) if len(t.shape) > 1 and t.tensor_type.name != "F32"]
    counts, others = Counter[str](), Counter[str]()
    for tensor in matrices:
        name = tensor.tensor_type.name.lower()
        counts[name] += 1
        whole = int(tensor.shape[0]) % WHOLE == 0  # the reader gives the length of a row first
        if not whole and (recipe.block == WHOLE or name != recipe.name):
            others[name] += 1
    types, other = (
        dict(sorted(each.items(), key=lambda item: (-item[1], item[0]))) for each in (counts, others)
    )
    listed, apart = (", ".join(f"{n} {name}" for name, n in each.items()) for each in (types, other))
    bits = 8 * sum(int(t.n_bytes) for t in matrices) / max(1, sum(int(t.n_elements) for t in matrices))
    text = f"{recipe.name}: {listed}; {bits:.2f} bits a weight"
    if other:
        text += (
            f". {others.total()} of {counts.total()} matrices have rows that are no multiples of {WHOLE} numbers, "
            f"so llama.cpp stores them in larger types: {apart}"
        )
    return Stored(types, other, text)


Importance = Mapping[str, NDArray[np.float32]]
"""Mean squares of the inputs of each matrix, by the name of its weight in the child."""


def importance_of(child_dir: Path, blocks_NS: Tensor, progress: Progress) -> Importance:
    """Return the importance matrix of a child on blocks of tokens, of which each worker reads one at a time."""
    model = load_checkpoint(child_dir)
    base: Any = model.base_model
    here = local()

    def note(name: str) -> Any:
        def add(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            if args[0] is not here.states:  # matrices side by side read the same
                here.states, here.squares = args[0], _squares(args[0])
            here.sums[name] = here.sums.get(name, 0) + here.squares

        return add

    def of_block(block_S: Tensor) -> dict[str, Tensor]:
        sums: dict[str, Tensor] = {}
        here.states, here.sums = None, sums
        states = base(block_S[None], use_cache=False).last_hidden_state
        # what the head reads, without its logits; also of a tied embedding
        ends = dict.fromkeys(
            ("lm_head.weight", "model.embed_tokens.weight"), _squares(read_by_head(model, states))
        )
        return sums | ends

    for name, module in base.named_modules(prefix=model.base_model_prefix):
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(note(f"{name}.weight"))
    sums: dict[str, Tensor] = {}
    progress.start("importance of inputs", len(blocks_NS))
    with Workers(model.device, shared=not is_paged(model), most=AT_ONCE) as workers:
        for _, own in workers.each(of_block, blocks_NS):
            sums = {name: sums.get(name, 0) + total for name, total in own.items()}
            progress.advance()
    return {name: (total / blocks_NS.numel()).float().numpy() for name, total in sums.items()}


def _squares(states: Tensor) -> Tensor:
    """Return the sum of the squares of each channel, float64."""
    return states.double().flatten(0, -2).square().sum(0)


def in_file(
    importance: Importance, lowered: ChildFiles, engine: Architecture
) -> dict[str, NDArray[np.float32]]:
    """Return an importance matrix by a GGUF file's names, without experts'; inputs that the file adds get a matrix's mean."""
    found = {}
    for name, values in importance.items():
        if name not in lowered.weights or ".experts." in name:
            continue
        missing = lowered.weights[name].shape[-1] - len(values)
        if missing >= 0:
            filled = np.concatenate([values, np.full(missing, values.mean(), dtype=np.float32)])
            found[place_of(name, lowered, engine).tensor] = filled
    return found
