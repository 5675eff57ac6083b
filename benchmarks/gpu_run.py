"""Run a program's tasks one by one, each timed, for `benchmarks.gpu`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.ir import nodes
from puzzledsl.models.placement import placement, this_device
from puzzledsl.pipeline.compile import compile_program, open_program
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.execute import execute, tasks_of
from puzzledsl.pipeline.process import Reporter
from puzzledsl.pipeline.task import Task


@dataclass(frozen=True, slots=True)
class Timed:
    """One task's time. `tokens` that it runs through a whole model, `flop` as `pzl run --dry-run` counts them; 0 for none."""

    task: str
    seconds: float
    tokens: int
    flop: float
    peak_bytes: int

    def figures(self, peak_flop_per_s: float) -> dict[str, Any]:
        """The figures of the JSON file."""
        return {
            "task": self.task,
            "seconds": round(self.seconds, 3),
            "tokens_per_s": self.tokens / self.seconds if self.tokens else None,
            "utilisation": self.flop / self.seconds / peak_flop_per_s if self.flop else None,
            "peak_bytes": self.peak_bytes,
        }


@contextmanager
def on_the_cpu() -> Iterator[None]:
    """Inside the context, the package sees no GPU."""
    with mock.patch.object(torch.cuda, "is_available", return_value=False):
        yield


def run(template: Path, build: Path, *, device: str, dtype: str) -> list[Timed]:
    """Run every task of a program on a device, in `build`, and return their times."""
    build.mkdir(parents=True, exist_ok=True)
    file = template.with_name(f"{device}.pzl")
    file.write_text(template.read_text().replace("DEVICE", device).replace("DTYPE", dtype))
    opened = open_program(file, {}, build)
    if opened.context is None:
        raise DiagnosticError(*opened.diagnostics)
    context = opened.context
    with Reporter(build / "log.jsonl") as reporter:
        context.progress = reporter
        compile_program(context, models=False)
        return [_timed(context, task) for task in tasks_of(context)]


def _timed(context: Context, task: Task) -> Timed:
    on_gpu = torch.cuda.is_available()
    flop, tokens = flop_of(context, task), tokens_of(context.program, task)
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    execute(context, [task], force=True)
    if on_gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    peak = torch.cuda.max_memory_allocated() if on_gpu else 0
    return Timed(task.title, seconds, tokens, flop, peak)


def flop_of(context: Context, task: Task) -> float:
    """Return a task's products: those of its memory plans, or of its work where it has none."""
    source = next(iter(context.program.parents.values())).source
    assert isinstance(source, nodes.HfSource)
    here = this_device(*placement(context.base / source.id))
    one_a_second = replace(here, flop_per_s=1.0, bandwidth_bytes_per_s=math.inf)
    return sum(plan.seconds for plan in task.plans(one_a_second, here.memory_bytes)) or task.work().flop


def tokens_of(program: nodes.Program, task: Task) -> int:
    """Return the tokens that a task sends through the parent or a child; a score counts a part of the layers as all."""
    match task.stage:
        case "bld":
            bld = program.blds[task.name]
            return bld.tokens + bld.calibration_tokens
        case "score":
            method, space = program.scores[task.name].method, program.spaces[program.scores[task.name].space]
            assert isinstance(method, nodes.ReplaceOne)
            return method.samples * (
                1 + sum(len(layer.attention) + len(layer.ffn) - 2 for layer in space.layers)
            )
        case "uptrain":
            return program.uptrains[task.name].tokens
        case "eval":
            return 2 * program.evals[task.name].tokens
        case _:
            return 0
