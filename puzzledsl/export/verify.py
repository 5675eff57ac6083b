"""Verification of a child in every engine against a float64 reference: equal logits, and equal tokens with the KV cache.

The weights of a quantised GGUF file are compared with the child's, and llama.cpp's logits with those of a float64 model of the
same dequantised weights. llama.cpp rounds activations to 8 bits where it multiplies by quantised matrices, so its error may be
some times that of a `q8_0` file of the same weights. Unquantised files have no such error, and must equal the reference.

Where a child rounds keys and values, engines do, too. Near the middle between two values, float32 and float64 may round to unlike
ones, and llama.cpp rounds queries as well. Logits may thus differ by some times what rounding changes in the reference.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, assert_never, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.alternatives.precision import ServedCaches
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import scratch
from puzzledsl.base.progress import Progress
from puzzledsl.child.checkpoint.contents import (
    ChildFiles,
    child_config,
    from_directory,
    from_parent,
    load_checkpoint,
)
from puzzledsl.child.checkpoint.write import code_for, foreign_code, write_checkpoint
from puzzledsl.child.definition import NotThisChild
from puzzledsl.data.tasks import common_prefix
from puzzledsl.export.engines.ask import Answer, Crash, ask, python_of
from puzzledsl.export.gguf_file import Encode, GgufDtype, Place, as_llama_cpp, place_of, write_gguf
from puzzledsl.export.gguf_tokenizer import tensors_of
from puzzledsl.export.lowering import caches_of, choose, lower, served_caches
from puzzledsl.export.write import DTYPES, write_for, write_mlx
from puzzledsl.families.block_configs import CACHE, is_child
from puzzledsl.ir.engines import LLAMA_CPP, RUNTIMES
from puzzledsl.ir.tables import EngineName, EngineResult
from puzzledsl.models.families.load import load_parent, load_tokenizer, read_config_json


class Read(NamedTuple):
    """A child as a file has it, and as llama.cpp would run it unrounded: the same names and shapes of weights."""

    rounded: ChildFiles
    own: ChildFiles


def read_gguf(path: Path, child: ChildFiles) -> Read:
    """Return a child with a GGUF file's weights (float32, no storage types), and with its own. Raises DiagnosticError."""
    try:
        tensors = {tensor.name: tensor for tensor in tensors_of(path)}
    except (ValueError, IndexError, OverflowError) as error:
        raise DiagnosticError(NotThisChild(None, path=path, reason="it is no GGUF file")) from error
    for whole_blocks in (True, False):  # a file has all FFNs in whole blocks, or only the quantised ones
        lowered, engine = as_llama_cpp(child, whole_blocks=whole_blocks)
        places = {name: place_of(name, lowered, engine) for name in lowered.weights}
        unlike = (
            _unlike_tensor(place, tensors.get(place.tensor), lowered.weights[name].shape)
            for name, place in places.items()
        )
        if reason := next(filter(None, unlike), ""):
            continue
        own = lowered.weights
        weights = {n: place.weight(tensors[place.tensor], own[n].shape) for n, place in places.items()}
        layers = tuple((a.in_precision(None), ffn.in_precision(None)) for a, ffn in lowered.layers)
        return Read(replace(lowered, layers=layers, weights=weights), lowered)
    raise DiagnosticError(NotThisChild(None, path=path, reason=reason))


def _unlike_tensor(place: Place, tensor: Any, shape: tuple[int, ...]) -> str:
    """Say that a file lacks a tensor of the child, or has it in another size; empty for the right one."""
    if tensor is None:
        return f"it has no tensor `{place.tensor}`"
    found = tuple(int(size) for size in reversed(tensor.shape))
    if place.whole and found != shape:
        return f"its tensor `{place.tensor}` has the shape {list(found)}, not {list(shape)}"
    return ""


AS_ITS_OWN = 3.0
"""Greatest relative error as a multiple of that of llama.cpp's `q8_0`; tiny children reached 2.0 (iq4_xs)."""
ROUNDED = 0.5
"""Greatest distance of a weight from the child's, relative to its norm, by rounding. An unrelated matrix is at about 1.4."""


def verify_gguf(directory: Path, file: Path, progress: Progress) -> EngineResult:
    """Compare a GGUF file in llama.cpp with the model of a directory. Raises DiagnosticError, such as NotThisChild."""
    child = open_model(directory)
    found, own = read_gguf(file, child)
    if strange := _unlike(found, own):
        return EngineResult(engine="llama_cpp", status="differs", reason=strange)
    prompts = prompts_of(directory, child.shape.vocab)
    with scratch("verify") as work:
        write_checkpoint(found, directory, work / "dequantised", "")
        model = load_checkpoint(work / "dequantised", dtype=torch.float64)
        expected = _references(model, prompts, progress)
        del model
        write_gguf(found, directory, work / "q8_0.gguf", "q8_0", name="q8_0")
        progress.start("running llama.cpp", 1)
        caches = served_caches(child, LLAMA_CPP).request
        answer = ask("llama_cpp", [file, work / "q8_0.gguf"], prompts, steps=STEPS, caches=caches)
        progress.advance()
    match answer:
        case Crash(reason=reason):
            return EngineResult(engine="llama_cpp", status="crashed", reason=reason)
        case Answer():
            result = compare("llama_cpp", answer, 0, expected)
            error, of_q8_0 = (_relative_error(answer.logits[model], expected) for model in (0, 1))
            rounds = caches or any(t.tensor_type.name not in ("F32", "F64") for t in tensors_of(file))
            near = result.status == "equal" or (rounds and error <= AS_ITS_OWN * of_q8_0)
            status = "equal" if near else "differs"
            return result.model_copy(update={"status": status, "error": error, "own_error": of_q8_0})


def _unlike(found: ChildFiles, own: ChildFiles) -> str:
    """Return a sentence on the weight that is farthest from the child's; empty if rounding explains every distance."""
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


TORCH_DTYPES = DTYPES | {"f32": torch.float32, "f16": torch.float16}


def prepare(
    child: ChildFiles,
    base_dir: Path,
    engine: EngineName,
    folder: Path,
    dtype: str = "f32",
    *,
    encode: Encode | None = None,
    words: bool = True,
) -> Path:
    """Write the child for one engine below `folder`; return the path to load. `dtype`: of TORCH_DTYPES; llama.cpp: of GgufDtype.

    `encode` makes the bytes of a GGUF file's tensors; default: from the weights. Without `words` such a file has no tokenizer: it
    is sooner written, and can be timed. What the engine is to be told of KV caches is written beside it (`caches_beside`).
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
            tokenizer_dir = base_dir if words else None
            write_gguf(child, tokenizer_dir, target, cast(GgufDtype, dtype), name=folder.name, encode=encode)
        case "mlx":
            write_mlx(child, base_dir, target, "", dtype=TORCH_DTYPES[dtype])
        case _:
            assert_never(engine)
    _beside(target).write_text(json.dumps(asdict(served_caches(child, RUNTIMES[engine]))), "utf-8")
    return target


def caches_beside(path: Path) -> ServedCaches:
    """Return the types of KV caches that `prepare` noted beside a model; none for a file without such a note."""
    if not _beside(path).is_file():
        return ServedCaches("")
    found: dict[str, Any] = json.loads(_beside(path).read_text("utf-8"))
    return ServedCaches(**{**found, "kept": tuple(found["kept"])})


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.caches.json")


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
    foreign = foreign_code(directory, child) if is_child(read_config_json(directory)) else []
    if foreign and not trust:
        raise DiagnosticError(*foreign)
    prompts = prompts_of(directory, child.shape.vocab)
    model = load_checkpoint(directory, dtype=torch.float64)
    expected = _references(model, prompts, progress)
    del model
    slack = _moved_by_caches(child, directory, prompts, expected)
    results = []
    with scratch("verify") as folder:
        for engine in engines:
            progress.start(f"running {RUNTIMES[engine].title}", 1)
            path = directory if foreign and code_for(engine, directory) else None
            results.append(_one(child, directory, engine, folder, prompts, expected, path, slack))
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
    slack: float,
) -> EngineResult:
    if python_of(engine) is None:
        return EngineResult(engine=engine, status="absent", reason="not installed")
    try:
        path = path or prepare(child, directory, engine, folder)
    except DiagnosticError as error:
        reason = "; ".join(diagnostic.message for diagnostic in error.diagnostics)
        return EngineResult(engine=engine, status="refused", reason=reason)
    match ask(engine, [path], prompts, steps=STEPS, caches=served_caches(child, RUNTIMES[engine]).request):
        case Crash(reason=reason):
            return EngineResult(engine=engine, status="crashed", reason=reason)
        case Answer() as answer:
            return compare(engine, answer, 0, expected, slack)


@torch.no_grad()
def _moved_by_caches(
    child: ChildFiles,
    directory: Path,
    prompts: Sequence[Sequence[int]],
    expected: Sequence[tuple[Array, list[int]]],
) -> float:
    """Return the greatest change of a reference's logit by rounding keys and values; 0 for a child that does not round them."""
    if not any(caches_of(child)):
        return 0.0
    config: Any = child_config(directory)
    for block in config.block_configs:
        block["attention"].pop(CACHE, None)
    model: Any = load_parent(directory, config, dtype=torch.float64)
    plain = (model(torch.tensor([list(prompt)]), use_cache=False).logits[0].numpy() for prompt in prompts)
    return max(float(np.abs(own - logits).max()) for own, (logits, _) in zip(plain, expected, strict=True))


def compare(
    engine: EngineName,
    answer: Answer,
    model: int,
    expected: Sequence[tuple[Array, list[int]]],
    slack: float = 0.0,
) -> EngineResult:
    """Compare one model's answers with the reference's; `slack`: greatest change of a logit by rounding keys and values."""
    delta = largest = 0.0
    same = tokens = 0
    for prompt, (logits, greedy) in enumerate(expected):
        wanted = log_softmax(logits) if answer.logprobs else logits
        found = np.abs(answer.logits[model][prompt] - wanted).max()
        delta = max(delta, float(found)) if np.isfinite(found) else float("inf")
        largest = max(largest, float(np.abs(logits).max()))
        same += common_prefix(answer.greedy[model][prompt], greedy)
        tokens += len(greedy)
    allowed = max(TOLERANCE * max(1.0, largest), AS_ITS_OWN * slack)
    equal = delta <= allowed and (same == tokens or slack > 0)
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


def _references(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], progress: Progress
) -> list[tuple[Array, list[int]]]:
    progress.start("reference", len(prompts))
    expected = []
    for prompt in prompts:
        expected.append(reference(model, prompt, STEPS))
        progress.advance()
    return expected


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
