"""Verification of a quantised GGUF file: its weights against the child's, then llama.cpp against those weights in float64.

llama.cpp rounds activations to 8 bits where it multiplies by quantised matrices. The measure of that is its own `q8_0` file of
the same dequantised weights, whose further rounding is small; unquantised files have none, and must equal the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from puzzledsl.base.files import scratch
from puzzledsl.base.progress import Progress
from puzzledsl.child.checkpoint.contents import ChildFiles
from puzzledsl.child.checkpoint.write import write_checkpoint
from puzzledsl.child.load import load_checkpoint
from puzzledsl.export.engines.ask import Answer, Crash, ask
from puzzledsl.export.gguf_file import write_gguf
from puzzledsl.export.gguf_reading import read_gguf
from puzzledsl.export.verify import STEPS, Array, compare, open_model, prompts_of, reference
from puzzledsl.ir.tables import EngineResult

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
    import gguf

    return any(t.tensor_type.name not in ("F32", "F64") for t in gguf.GGUFReader(file).tensors)
