"""Speed of parent and child in third-party engines: bytes of their weights, and tokens per second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import scratch
from puzzledsl.base.progress import Progress
from puzzledsl.export.engines.ask import Crash, ask, python_of
from puzzledsl.export.verify import open_model, prepare, weights_bytes
from puzzledsl.ir.engines import RUNTIMES
from puzzledsl.ir.tables import EngineName, EngineSpeed

DTYPES: dict[EngineName, tuple[str, ...]] = {
    "transformers": ("f32",),
    "llama_cpp": ("f32", "q8_0"),
    "mlx": ("f32",),
    "vllm": ("f32",),
}
"""Weight formats in which speed is measured: float32 in every engine, for comparison, and llama.cpp's q8_0."""
TEXT = "The capital of France is"


def measure(
    child: Path,
    parent: Path,
    engines: Sequence[EngineName],
    progress: Progress,
    *,
    prompt: int = 128,
    output: int = 64,
    rounds: int = 5,
    threads: int = 1,
) -> tuple[EngineSpeed, ...]:
    """Time one sequence, parent and child in turn, in every engine that is there and has the child. Raises DiagnosticError."""
    found: list[EngineSpeed] = []
    for engine in engines:
        for dtype in DTYPES[engine] if python_of(engine) is not None else ():
            progress.start(f"timing {RUNTIMES[engine].title} {dtype}", 1)
            found += _one(child, parent, engine, dtype, prompt, output, rounds, threads)
            progress.advance()
    return tuple(found)


def _one(
    child: Path,
    parent: Path,
    engine: EngineName,
    dtype: str,
    prompt: int,
    output: int,
    rounds: int,
    threads: int,
) -> list[EngineSpeed]:
    with scratch("speed") as folder:
        paths: list[Path] = []
        names: tuple[Literal["parent", "child"], ...] = ("parent", "child")
        for name, directory in zip(names, (parent, child), strict=True):
            place = folder / name
            place.mkdir()
            try:
                paths.append(prepare(open_model(directory), directory, engine, place, dtype))
            except DiagnosticError:
                return []
        vocab = open_model(parent).shape.vocab
        tokens = [(7 + 13 * i * i) % vocab for i in range(prompt)]
        speed: dict[str, Any] = {"prompt": tokens, "steps": output, "rounds": rounds}
        context = prompt + output + 64
        answer = ask(engine, paths, [], context=context, threads=threads, speed=speed, text=TEXT)
        if isinstance(answer, Crash):
            return []
        return [
            EngineSpeed(
                model=name,
                engine=engine,
                version=answer.version,
                dtype=dtype,
                weights_bytes=weights_bytes(path),
                prefill_tokens_per_s=round(median(facts["prefill"]), 2),
                decode_tokens_per_s=round(median(facts["decode"]), 2),
                text=facts.get("text", ""),
            )
            for name, path, facts in zip(names, paths, answer.facts, strict=True)
        ]
