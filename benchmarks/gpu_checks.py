"""Comparison of a GPU's build directory with a CPU's, stage by stage, for `benchmarks.gpu`.

Bfloat16 keeps 8 bits: a layer's outputs are off by a thousandth of their size. A child's loss is a difference of such numbers, so
it is off by a few hundredths where it is small.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.ir.tables import CostTable, ScoreTable, SearchResult
from puzzledsl.pieces.store.library import Library

LOSS, KL, SHARE = 0.05, 0.1, 0.02
"""Allowed relative differences: of a piece's loss, of a KL divergence, of what is nearly exact."""
FLOOR = 0.01
"""Losses and KLs are compared as if they were at least this much, in their units (shares of a target's square, nats)."""


@dataclass(frozen=True, slots=True)
class Check:
    """The largest relative difference of some figures of a stage, and what is allowed."""

    stage: str
    what: str
    off: float
    allowed: float

    @property
    def ok(self) -> bool:
        """True within what is allowed; not for NaN."""
        return self.off <= self.allowed


def off(cpu: float, gpu: float, floor: float = FLOOR) -> float:
    """Return |gpu - cpu| relative to the CPU's figure."""
    return abs(gpu - cpu) / max(abs(cpu), floor)


def largest(cpu: dict[str, float], gpu: dict[str, float]) -> float:
    """Return the largest difference; infinite if the names are not the same."""
    if set(cpu) != set(gpu) or not cpu:
        return float("inf")
    return max(off(cpu[name], gpu[name]) for name in cpu)


def checks(cpu: Path, gpu: Path) -> list[Check]:
    """Compare everything that both build directories hold."""
    here, there = BuildDir(cpu), BuildDir(gpu)
    return [
        *_measured(here, there),
        *_pieces(here, there),
        *_scores(here, there),
        *_children(here, there),
        *_logged(here, there),
        *_evaluated(here, there),
    ]


def _measured(here: BuildDir, there: BuildDir) -> Iterator[Check]:
    """Sizes are counted, so both have the same; times are the GPU's own."""
    tables = [CostTable.from_json(build.measured_costs("wide").read_bytes()) for build in (here, there)]
    cpu, gpu = ({k: float(v) for layer in t.params_ffn for k, v in layer.items()} for t in tables)
    yield Check("measure", "parameters of alternatives", largest(cpu, gpu), 0.0)
    costs = [
        cost
        for cells in tables[1].scenarios.values()
        for cell in cells
        for layer in cell.attention
        for cost in layer.values()
    ]
    untimed = sum(1 for cost in costs if cost.decode_ns < 0) / max(1, len(costs))
    yield Check("measure", "share of alternatives without a time", untimed, 0.0)


def _pieces(here: BuildDir, there: BuildDir) -> Iterator[Check]:
    for what in ("loss_initial", "loss_final"):
        cpu, gpu = (
            {piece.job.id: float(getattr(piece, what)) for piece in Library(build.library).pieces()}
            for build in (here, there)
        )
        yield Check("bld", f"{what} of {len(cpu)} pieces", largest(cpu, gpu), LOSS)


def _scores(here: BuildDir, there: BuildDir) -> Iterator[Check]:
    for name in ("kl", "cured"):
        tables = [ScoreTable.from_json(build.scores(name).read_bytes()) for build in (here, there)]
        cpu, gpu = (_entries(table) for table in tables)
        yield Check("score", f"{name}: {len(cpu)} replacements", largest(cpu, gpu), KL)


def _entries(table: ScoreTable) -> dict[str, float]:
    rows = {"attention": table.attention, "ffn": table.ffn, "pairs": table.pairs}
    return {
        f"{part} {layer} {name}": value
        for part, layers in rows.items()
        for layer, entries in enumerate(layers)
        for name, value in entries.items()
    }


def _children(here: BuildDir, there: BuildDir) -> Iterator[Check]:
    for name in ("best", "fixed"):
        cpu, gpu = (SearchResult.from_json(build.solution(name).read_bytes()) for build in (here, there))
        worst = off(cpu.objective or 0.0, gpu.objective or 0.0)
        yield Check("solve", f"objective of `{name}`", worst, KL)


def _logged(here: BuildDir, there: BuildDir) -> Iterator[Check]:
    """KLs of the child that both have: assembled, healed, and during uptraining."""
    cpu, gpu = (dict(_events(build)) for build in (here, there))
    for stage in ("realise", "uptrain"):
        parts = [{n: v for n, v in found.items() if n.startswith(stage)} for found in (cpu, gpu)]
        yield Check(stage, f"{len(parts[0])} KLs on held-out text", largest(*parts), KL)


def _events(build: BuildDir) -> Iterator[tuple[str, float]]:
    for line in build.log.read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "healed" and event["search"] == "fixed":
            yield "realise assembled", event["kl_assembled"]
            yield "realise healed", event["kl_healed"]
        elif event["event"] == "uptrain_heldout":
            yield f"uptrain step {event['step']}", event["kl"]


def _evaluated(here: BuildDir, there: BuildDir) -> Iterator[Check]:
    cpu, gpu = (json.loads(build.evaluation("quality").read_text()) for build in (here, there))
    for model, others in zip(cpu["models"], gpu["models"], strict=True):
        for name, allowed in (("kl", KL), ("perplexity", SHARE)):
            if name in model["figures"]:
                values = [float(m["figures"][name]["value"]) for m in (model, others)]
                yield Check("eval", f"{name} of `{model['model']}`", off(*values), allowed)
