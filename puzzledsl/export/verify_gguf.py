"""Verification of a quantised GGUF file: its weights against the child's, then llama.cpp against those weights in float64.

llama.cpp rounds activations to 8 bits where it multiplies by quantised matrices. The measure of that is its own `q8_0` file of
the same dequantised weights, whose further rounding is small; unquantised files have none, and must equal the reference.

Read a child's weights back from a GGUF file: each dequantised, and in transformers' order and names again.

Shapes: N heads of D = head_dim rows each, E experts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from puzzledsl.alternatives.support import Architecture
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import scratch
from puzzledsl.base.progress import Progress
from puzzledsl.child.checkpoint.contents import ChildFiles
from puzzledsl.child.checkpoint.write import write_checkpoint
from puzzledsl.child.errors import NotThisChild
from puzzledsl.child.load import load_checkpoint
from puzzledsl.export.engines.ask import Answer, Crash, ask
from puzzledsl.export.gguf_codes import tensors_of
from puzzledsl.export.gguf_file import INSIDE, OUTSIDE, as_llama_cpp, write_gguf
from puzzledsl.export.verify import STEPS, Array, compare, open_model, prompts_of, reference
from puzzledsl.ir.engines import DECI, OPENELM
from puzzledsl.ir.tables import EngineResult
from puzzledsl.models.families.tensors import LazyTensor

FUSED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


class Read(NamedTuple):
    """A child as a file has it, and as llama.cpp would run it unrounded: the same names and shapes of weights."""

    rounded: ChildFiles
    own: ChildFiles


def read_gguf(path: Path, child: ChildFiles) -> Read:
    """Return the child, as llama.cpp runs it, with the weights of a file that was made of it; types of sub-blocks are gone.

    Weights are float32 and dequantised when they are read. Raises DiagnosticError: NotThisChild, what llama.cpp cannot represent.
    """
    try:
        tensors = {tensor.name: tensor for tensor in tensors_of(path)}
    except (ValueError, IndexError, OverflowError) as error:
        raise DiagnosticError(NotThisChild(None, path=path, reason="it is no GGUF file")) from error
    reason = "nothing is left of it"
    for whole_blocks in (True, False):  # a file has all FFNs in whole blocks, or only the quantised ones
        lowered, engine = as_llama_cpp(child, whole_blocks=whole_blocks)
        try:
            weights = {name: _read(name, lowered, engine, tensors) for name in lowered.weights}
        except _Unlike as error:
            reason = str(error)
            continue
        layers = tuple((attention.unquantised, ffn.unquantised) for attention, ffn in lowered.layers)
        return Read(replace(lowered, layers=layers, weights=weights), lowered)
    raise DiagnosticError(NotThisChild(None, path=path, reason=reason))


class _Unlike(Exception):
    """The file lacks a weight of the child, or has it in another size."""


def _read(name: str, child: ChildFiles, engine: Architecture, tensors: Mapping[str, Any]) -> LazyTensor:
    shape = child.weights[name].shape
    place = place_of(name, child, engine)
    if (tensor := tensors.get(place.tensor)) is None:
        raise _Unlike(f"it has no tensor `{place.tensor}`")
    found = tuple(int(size) for size in reversed(tensor.shape))
    if place.whole and found != shape:
        raise _Unlike(f"its tensor `{place.tensor}` has the shape {list(found)}, not {list(shape)}")

    def read() -> Tensor:
        import gguf

        value = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
        return place.cut(value.reshape(found), shape)

    return LazyTensor(shape, torch.float32, read)


class Place:
    """The tensor that holds a weight. `first`: its first row there; `expert`: its matrix; `head_dim`: of heads in pairs."""

    def __init__(
        self, tensor: str, *, first: int | None = None, expert: int | None = None, head_dim: int = 0
    ) -> None:
        self.tensor, self.first, self.expert, self.head_dim = tensor, first, expert, head_dim
        self.whole = first is None and expert is None

    def cut(self, value: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the weight from the tensor's value."""
        if self.expert is not None:
            value = value[self.expert]
        if self.first is not None:
            value = value[self.first :]
        value = value[tuple(slice(size) for size in shape)]
        if self.head_dim:
            value = value.reshape(-1, self.head_dim // 2, 2, *shape[1:]).transpose(1, 2).reshape(shape)
        return value.contiguous()


def place_of(name: str, child: ChildFiles, engine: Architecture) -> Place:
    """Return the place of a weight of a lowered child in its file."""
    if name in OUTSIDE:
        return Place(OUTSIDE[name])
    index, _, own = name.removeprefix("model.layers.").partition(".")
    module, _, kind = own.rpartition(".")
    if module == "mlp.gate":
        return Place(f"blk.{index}.ffn_gate_inp.weight", first=0)
    if module.startswith("mlp.experts."):
        expert, _, projection = module.removeprefix("mlp.experts.").partition(".")
        return Place(f"blk.{index}.ffn_{projection.removesuffix('_proj')}_exps.weight", expert=int(expert))
    if engine is OPENELM and module in FUSED:
        before = FUSED[: FUSED.index(module)]
        first = sum(child.weights[f"model.layers.{index}.{m}.weight"].shape[0] for m in before)
        return Place(f"blk.{index}.attn_qkv.weight", first=first)
    paired = engine is DECI and module in FUSED[:2]
    return Place(f"blk.{index}.{INSIDE[module]}.{kind}", head_dim=child.shape.head_dim if paired else 0)


AS_ITS_OWN = 3.0
"""Factor by which the relative error may exceed that of llama.cpp's `q8_0`; on tiny children up to 2.0 (iq4_xs)."""
ROUNDED = 0.5
"""Distance of a weight from the child's, relative to its norm, that rounding may explain. Of another matrix it is about 1.4."""


def verify_gguf(directory: Path, file: Path, progress: Progress) -> EngineResult:
    """Run a GGUF file of the model of a directory in llama.cpp.

    Raises DiagnosticError: NotThisChild, those of a directory without a model.
    """
    child = open_model(directory)
    found, own = read_gguf(file, child)
    if strange := _unlike(found, own):
        return EngineResult(engine="llama_cpp", status="differs", reason=strange)
    prompts = prompts_of(directory, child.shape.vocab)
    with scratch("verify") as work:
        write_checkpoint(found, directory, work / "dequantised", "")
        model = load_checkpoint(work / "dequantised", dtype=torch.float64)
        progress.start("reference", len(prompts))
        expected = []
        for prompt in prompts:
            expected.append(reference(model, prompt, STEPS))
            progress.advance()
        del model
        write_gguf(found, directory, work / "q8_0.gguf", "q8_0", name="q8_0")
        progress.start("running llama.cpp", 1)
        answer = ask("llama_cpp", [file, work / "q8_0.gguf"], prompts, steps=STEPS)
        progress.advance()
    match answer:
        case Crash(reason=reason):
            return EngineResult(engine="llama_cpp", status="crashed", reason=reason)
        case Answer():
            result = compare("llama_cpp", answer, 0, expected)
            error, of_q8_0 = (_relative_error(answer.logits[model], expected) for model in (0, 1))
            near = result.status == "equal" or (_is_quantised(file) and error <= AS_ITS_OWN * of_q8_0)
            status = "equal" if near else "differs"
            return result.model_copy(update={"status": status, "error": error, "own_error": of_q8_0})


def _unlike(found: ChildFiles, own: ChildFiles) -> str:
    """The weight that is farthest from the child's, in words; empty where rounding explains the distance of each."""
    far = {name: _distance(found.weights[name].read(), weight.read()) for name, weight in own.weights.items()}
    name = max(far, key=far.__getitem__)
    if far[name] <= ROUNDED:
        return ""
    return f"`{name}` is {far[name]:.2f} times its norm away from the child's: the file was made of another child"


def _distance(found: Tensor, own: Tensor) -> float:
    own = own.float()
    return float((found - own).norm() / own.norm().clamp_min(torch.finfo(torch.float32).tiny))


def _relative_error(logits: Sequence[Array], expected: Sequence[tuple[Array, list[int]]]) -> float:
    apart = [found - wanted for found, (wanted, _) in zip(logits, expected, strict=True)]
    size = [wanted for wanted, _ in expected]
    return float(np.linalg.norm(np.concatenate(apart)) / np.linalg.norm(np.concatenate(size)))


def _is_quantised(file: Path) -> bool:
    return any(t.tensor_type.name not in ("F32", "F64") for t in tensors_of(file))
