"""Verification of a child in every engine against a float64 reference: equal logits, and equal tokens with the KV cache.

Convert a child (or a parent) to the format of each engine, in a temporary directory or at a given place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, assert_never, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import scratch
from puzzledsl.base.progress import Progress
from puzzledsl.child.checkpoint.contents import ChildFiles, from_directory, from_parent
from puzzledsl.child.checkpoint.foreign_code import code_for, foreign_code, refuse_foreign_code
from puzzledsl.child.load import load_checkpoint
from puzzledsl.export.engines.ask import Answer, Crash, ask, python_of
from puzzledsl.export.gguf_file import Encode, GgufDtype, write_gguf
from puzzledsl.export.lowering import choose, lower
from puzzledsl.export.mlx_directory import write_mlx
from puzzledsl.export.vllm_directory import write_for
from puzzledsl.families.children import is_child
from puzzledsl.ir.engines import RUNTIMES
from puzzledsl.ir.tables import EngineName, EngineResult
from puzzledsl.models.families.load import load_tokenizer, read_config_json

TORCH_DTYPES = {
    "f32": torch.float32,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "fp32": torch.float32,
    "fp16": torch.float16,
}


def prepare(
    child: ChildFiles,
    base_dir: Path,
    engine: EngineName,
    folder: Path,
    dtype: str = "f32",
    *,
    encode: Encode | None = None,
) -> Path:
    """Write the child for one engine below `folder`; returns what to load. `dtype`: f32, f16, bf16, or (llama.cpp) q8_0.

    `encode` makes the bytes of a GGUF file's tensors; default: from the weights.
    Raises DiagnosticError for what the engine cannot represent.
    """
    target = folder / f"{engine}-{dtype}"
    match engine:
        case "transformers" | "vllm":
            child = child.cast(TORCH_DTYPES[dtype])
            architecture = choose(child, RUNTIMES[engine])
            write_for(architecture, lower(child, architecture), base_dir, target, "")
        case "llama_cpp":
            assert dtype in get_args(GgufDtype)
            target = target.with_suffix(".gguf")
            write_gguf(child, base_dir, target, cast(GgufDtype, dtype), name=folder.name, encode=encode)
        case "mlx":
            write_mlx(child, base_dir, target, "", dtype=TORCH_DTYPES[dtype])
        case _:
            assert_never(engine)
    return target


def weights_bytes(path: Path) -> int:
    """Bytes of the weights' files."""
    return (
        path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.glob("*.safetensors"))
    )


Array = NDArray[np.float64]
STEPS = 32
TOLERANCE = 1e-4
"""Tolerance relative to the largest logit. float32 engines differ by a tenth of it, a faulty layer by 1000 times it."""
TEXTS = (
    "The quick brown fox jumps over the lazy dog because",
    "In 1687 Isaac Newton wrote that every particle attracts every other particle, which means",
)


def open_model(directory: Path) -> ChildFiles:
    """Open a child's or a parent's directory. Raises DiagnosticError."""
    return from_directory(directory) if is_child(read_config_json(directory)) else from_parent(directory)


def verify(
    directory: Path, engines: Sequence[EngineName], progress: Progress, *, trust: bool = False
) -> tuple[EngineResult, ...]:
    """Run the model of a directory in each engine, in float32.

    Engines run a copy with our own model code, so the directory's must be the same, byte for byte. With `trust`, other
    code is allowed, and the engines that would run it load the directory itself.
    Raises DiagnosticError: UntrustedCode, and those of a directory without a model.
    """
    child = open_model(directory)
    own_code = is_child(read_config_json(directory)) and bool(foreign_code(directory, child))
    if own_code and not trust:
        refuse_foreign_code(directory, child)
    prompts = prompts_of(directory, child.shape.vocab)
    model = load_checkpoint(directory, dtype=torch.float64)
    progress.start("reference", len(prompts))
    expected = []
    for prompt in prompts:
        expected.append(reference(model, prompt, STEPS))
        progress.advance()
    del model
    results = []
    with scratch("verify") as folder:
        for engine in engines:
            progress.start(f"running {RUNTIMES[engine].title}", 1)
            as_it_is = own_code and code_for(engine, directory)
            path = directory if as_it_is else None
            results.append(_one(child, directory, engine, folder, prompts, expected, path))
            progress.advance()
    return tuple(results)


def _one(
    child: ChildFiles,
    directory: Path,
    engine: EngineName,
    folder: Path,
    prompts: list[list[int]],
    expected: list[tuple[Array, list[int]]],
    path: Path | None,
) -> EngineResult:
    if python_of(engine) is None:
        return EngineResult(engine=engine, status="absent", reason="not installed")
    try:
        path = path or prepare(child, directory, engine, folder)
    except DiagnosticError as error:
        reason = "; ".join(diagnostic.message for diagnostic in error.diagnostics)
        return EngineResult(engine=engine, status="refused", reason=reason)
    match ask(engine, [path], prompts, steps=STEPS):
        case Crash(reason=reason):
            return EngineResult(engine=engine, status="crashed", reason=reason)
        case Answer() as answer:
            return compare(engine, answer, 0, expected)


def compare(
    engine: EngineName, answer: Answer, model: int, expected: Sequence[tuple[Array, list[int]]]
) -> EngineResult:
    """Compare one model's answers with the reference's, prompt by prompt."""
    delta = largest = 0.0
    same = tokens = 0
    for prompt, (logits, greedy) in enumerate(expected):
        wanted = log_softmax(logits) if answer.logprobs else logits
        found = np.abs(answer.logits[model][prompt] - wanted).max()
        delta = max(delta, float(found)) if np.isfinite(found) else float("inf")
        largest = max(largest, float(np.abs(logits).max()))
        same += common_prefix(answer.greedy[model][prompt], greedy)
        tokens += len(greedy)
    equal = delta <= TOLERANCE * max(1.0, largest) and same == tokens
    return EngineResult(
        engine=engine,
        version=answer.version,
        status="equal" if equal else "differs",
        max_delta=delta,
        largest=largest,
        same=same,
        tokens=tokens,
    )


def prompts_of(directory: Path, vocab: int) -> list[list[int]]:
    """Return two tokenised sentences; without a usable tokenizer, ids spread over the vocabulary."""
    try:
        tokenizer: Any = load_tokenizer(directory)
        found = [[int(token) for token in tokenizer.encode(text)][:64] for text in TEXTS]
        if all(prompt and max(prompt) < vocab for prompt in found):
            return found
    except DiagnosticError:
        pass
    return [[(7 + 13 * i * i) % vocab for i in range(length)] for length in (9, 24)]


@torch.no_grad()
def reference(model: PreTrainedModel, prompt: Sequence[int], steps: int) -> tuple[Array, list[int]]:
    """Return the logits (S, V) of a prompt and the greedy tokens after it, each from a full forward pass without a cache."""
    untyped: Any = model
    tokens = list(prompt)
    logits = untyped(torch.tensor([tokens]), use_cache=False).logits[0].double().numpy()
    row, chosen = logits[-1], []
    for _ in range(steps):
        chosen.append(int(row.argmax()))
        if len(chosen) < steps:
            ids = torch.tensor([tokens + chosen])
            row = untyped(ids, use_cache=False, logits_to_keep=1).logits[0, -1].double().numpy()
    return logits, chosen


def log_softmax(logits: Array) -> Array:
    """Return the log-probabilities of logits (S, V)."""
    shifted = logits - logits.max(-1, keepdims=True)
    found: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return found


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the number of elements before the first difference."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
