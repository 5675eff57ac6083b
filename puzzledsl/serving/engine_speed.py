"""Speed of parent and child in third-party engines: bytes of their weights, and tokens per second."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import scratch
from puzzledsl.base.progress import Progress
from puzzledsl.export.engines.ask import python_of
from puzzledsl.export.verify import caches_beside, open_model, prepare, weights_bytes
from puzzledsl.ir.engines import RUNTIMES
from puzzledsl.ir.tables import EngineName, EngineSpeed
from puzzledsl.measure.stopwatch import undisturbed
from puzzledsl.measure.whole import Workload
from puzzledsl.serving.clock import SPARE, in_turn
from puzzledsl.serving.session import Session, SessionFailed

DTYPES: dict[EngineName, tuple[str, ...]] = {
    "transformers": ("f32",),
    "llama_cpp": ("f32", "q8_0"),
    "mlx": ("f32",),
    "vllm": ("f32",),
}
"""Weight formats in which speed is measured: float32 in every engine, for comparison, and llama.cpp's q8_0."""
Model = Literal["parent", "child"]
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
    """Time one sequence, of the parent and of the child, in every engine that is there and has them both."""
    found: list[EngineSpeed] = []
    models: tuple[tuple[Model, Path], ...] = (("parent", parent), ("child", child))
    for engine in engines:
        for dtype in DTYPES[engine] if python_of(engine) is not None else ():
            progress.start(f"timing {RUNTIMES[engine].title} {dtype}", 1)
            with suppress(DiagnosticError, SessionFailed):  # `verify` says why
                found += [
                    _one(name, directory, engine, dtype, Workload(1, prompt, output), rounds, threads)
                    for name, directory in models
                ]
            progress.advance()
    return tuple(found)


def _one(
    name: Model,
    directory: Path,
    engine: EngineName,
    dtype: str,
    workload: Workload,
    rounds: int,
    threads: int,
) -> EngineSpeed:
    request: dict[str, object] = {
        "threads": threads,
        "dtype": "float32",
        "context": workload.prompt + workload.output + SPARE,
    }
    with scratch("speed") as folder:
        path = prepare(open_model(directory), directory, engine, folder, dtype)
        request |= caches_beside(path).request
        with Session(engine, path, request | {"text": True}) as session:
            text = session.text(TEXT)
            (seconds,) = in_turn([session], workload, rounds)
        return EngineSpeed(
            model=name,
            engine=engine,
            version=session.version,
            dtype=dtype,
            weights_bytes=weights_bytes(path),
            prefill_tokens_per_s=round(workload.prompt / undisturbed(seconds.prefill), 2),
            decode_tokens_per_s=round(1 / undisturbed(seconds.decode), 2),
            text=text,
        )
