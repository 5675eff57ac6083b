"""A finished build of a 30-layer parent: its program is checked, its artefacts have figures that could be real."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel

from puzzledsl.alternatives.linear import NoOpFfn
from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.files import write_text
from puzzledsl.checker.check import check
from puzzledsl.costs.metrics import metrics_of
from puzzledsl.costs.table import cost_table
from puzzledsl.ir import tables
from puzzledsl.ir.nodes import Program
from puzzledsl.plan.bld import bld_plan

SOURCE = """\
use "std/hardware.pzl" (rtx4090)
use "std/parents.pzl" (smollm2_135m)

parent smol = hf("HuggingFaceTB/SmolLM2-135M", shape: smollm2_135m)
data books = text("corpus/*.txt")                # plain text, <b>not</b> markup

space wide of smol {
  attention = gqa(kv_heads: 3 | 1) | linear | noop
  ffn = mlp(width: 100% | 75% | 50% | 25% | 10%) | linear | noop
  layers[0, -1] = parent
}

hardware gpu = rtx4090(memory: 24GiB, dtype: bf16, max_batch: 512)
scenario chat on gpu = batch(64, 128 -> 1024)
scenario rag  on gpu = batch(16, 2048 -> 128)

bld pieces of wide {
  train = attention + ffn, tokens = 200k
  lr = cosine(1e-3, warmup: 1%), data = books
}
score kl of pieces = replace_one(kl_divergence, samples: 4096)

## A child of SmolLM2 that answers twice as fast and still says the same things.
search fast of wide {
  minimize kl
  require chat.throughput >= 1.5x   because "the reason we do this"
  require rag.latency <= 900ms
  require chat.memory <= 20GiB      because "the desktop needs the rest"
  require params >= 0.5x
  require count(attention is noop) <= 12
  require sum(attention.kv_heads) <= 60
  for i in 1..29 {
    require layers[i].attention is noop implies layers[i-1].attention is not noop
  }
  solver = cpsat(time: 60s, gap: 0, seed: 1)
}
search greedy of fast { prefer params }
search uniform of fast { prefer -params }
search drop of fast { solver = cpsat(time: 10s) }
search large of fast { maximize params }
search dream of fast { require chat.throughput >= 9x }
frontier curve of fast = sweep(chat.throughput, 1x..3x, points: 7)

uptrain final of fast { loss = 1 * kld + 1 * cosine, tokens = 20M }
eval all of final = tasks("hellaswag.jsonl")
"""

Record = TypeVar("Record", bound=BaseModel)
LAYERS = 30
PARENT = tables.LayerAssignment(attention="parent", ffn="parent")


def but(record: Record, **update: Any) -> Record:
    """A record with other values of some fields."""
    return record.model_copy(update=update)


def the_program(folder: Path) -> Program:
    path = folder / "smol.pzl"
    write_text(path, SOURCE)
    found = check(path, {})
    assert found.program is not None, [str(d) for d in found.diagnostics]
    return found.program


def wave(i: int, phase: float = 0.0) -> float:
    """A number in 0..1 that depends on the layer in no simple way."""
    return 0.5 + 0.5 * math.sin(1.7 * i + phase) * math.cos(0.31 * i - phase)


def choice_of(i: int, hurry: float) -> tables.LayerAssignment:
    """What a child of a certain hurry (0..1) does in a layer."""
    if i in (0, LAYERS - 1):
        return PARENT
    a, f = wave(i) * 0.7 + hurry * 0.6, wave(i, 2.0) * 0.7 + hurry * 0.6
    attention = "parent" if a < 0.55 else "gqa1" if a < 0.74 else "linear" if a < 0.8 else "noop"
    widths = ("parent", "mlp1152", "mlp768", "mlp384", "mlp154", "linear", "noop")
    return tables.LayerAssignment(attention=attention, ffn=widths[min(int(max(f - 0.35, 0) * 9), 6)])


def child_of(hurry: float) -> tuple[tables.LayerAssignment, ...]:
    """No two attention no-ops stand next to each other."""
    layers: list[tables.LayerAssignment] = []
    for i in range(LAYERS):
        layer = choice_of(i, hurry)
        if layer.attention == "noop" and layers[-1].attention == "noop":
            layer = but(layer, attention="gqa1")
        layers.append(layer)
    return tuple(layers)


def the_scores(program: Program) -> tables.ScoreTable:
    """What each alternative loses: more where it keeps less, most in layers of its own."""
    harm = {"gqa1": 0.2, "noop": 1.0, "mlp1152": 0.05, "mlp768": 0.15, "mlp384": 0.4, "mlp154": 0.6}

    def layer(i: int, names: list[str], phase: float) -> dict[str, float]:
        scale = 0.002 + 0.03 * (1 - wave(i, phase)) ** 3
        return {
            n: 0.0 if n == "parent" else scale * (0.8 if n == "linear" else harm.get(n, 0.9)) for n in names
        }

    layers = program.spaces["wide"].layers
    return tables.ScoreTable(
        score="kl",
        metric="kl_divergence",
        samples=4096,
        attention=tuple(layer(i, [a.name for a in c.attention], 0.0) for i, c in enumerate(layers)),
        ffn=tuple(layer(i, [f.name for f in c.ffn], 2.0) for i, c in enumerate(layers)),
    )


def solved(
    program: Program,
    costs: tables.CostTable,
    scores: tables.ScoreTable,
    layers: tuple[tables.LayerAssignment, ...],
) -> tables.Solution:
    """A solution with the metrics that the search records."""
    metrics: dict[str, float] = {}
    for name, (costs_of, *_) in costs.scenarios.items():
        metrics |= {f"{name}.{k}": float(v) for k, v in metrics_of(costs_of, layers).items()}
    params = zip(costs.params_attention, costs.params_ffn, layers, strict=True)
    metrics["params"] = float(costs.params_fixed + sum(a[x.attention] + f[x.ffn] for a, f, x in params))
    lost = zip(scores.attention, scores.ffn, layers, strict=True)
    metrics["kl"] = sum(a[x.attention] + f[x.ffn] for a, f, x in lost)
    batches = {name: costs_of.batch for name, (costs_of, *_) in costs.scenarios.items()}
    return tables.Solution(objective=metrics["kl"], layers=layers, batches=batches, metrics=metrics)


@dataclass(frozen=True)
class Built:
    """A build directory with everything in it, and the artefacts by themselves."""

    program: Program
    build: BuildDir
    source: str
    costs: tables.CostTable
    scores: tables.ScoreTable
    results: dict[str, tables.SearchResult]
    evaluation: tables.Evaluation
    pieces: tuple[tables.Piece, ...]


def make_build(root: Path, program: Program) -> Built:
    build, costs, scores = BuildDir(root), cost_table(program, "wide"), the_scores(program)
    parent = solved(program, costs, scores, (PARENT,) * LAYERS)
    results: dict[str, tables.SearchResult] = {}
    hurries = {"fast": 0.42, "greedy": 0.45, "uniform": 0.5, "drop": 0.55, "large": 0.47}
    for name, hurry in hurries.items():
        layers = child_of(hurry)
        if name == "uniform":
            layers = (
                PARENT,
                *[tables.LayerAssignment(attention="gqa1", ffn="mlp384")] * (LAYERS - 2),
                PARENT,
            )
        if name == "drop":
            layers = (PARENT, but(PARENT, ffn="noop")) * (LAYERS // 2 - 1) + (PARENT, PARENT)
        solution = solved(program, costs, scores, layers)
        if name == "large":
            solution = but(solution, objective=solution.metrics["params"])
        bound = solution.objective * 0.99998 if name == "fast" else None
        results[name] = tables.SearchResult(
            search=name,
            status="optimal" if name in ("fast", "large") else "feasible",
            objective=solution.objective,
            bound=bound,
            gap=None if bound is None else 2e-5,
            solver="cpsat" if name in ("fast", "large") else name,
            solutions=(solution,),
            parent_metrics=parent.metrics,
        )
    conflict = [
        {"line": 25, "text": "require chat.throughput >= 9x", "because": "a dream", "reachable": "3.12x"},
        {"line": 28, "text": "require params >= 0.5x", "reachable": "0.31x"},
    ]
    dream = {"search": "dream", "status": "infeasible", "conflict": conflict}
    results["dream"] = tables.SearchResult.model_validate(dream)
    evaluation = the_evaluation(parent, results)
    points = []
    for step in range(7):
        solution = solved(program, costs, scores, child_of(step * 0.12))
        target = parent.metrics["chat.throughput"] * (1 + step / 3)
        state = {"status": "infeasible"} if step == 6 else {"status": "optimal", "solutions": (solution,)}
        result = tables.SearchResult.model_validate({"search": "fast", **state})
        points.append(tables.FrontierPoint(target=target, result=result))
    shape = program.parents["smol"].shape
    pieces = tuple(
        tables.Piece(
            job=job,
            file=f"{job.id}.safetensors",
            sha256="0" * 64,
            loss_initial=0.02 + 0.5 * share * wave(job.layer) + 0.1 * share,
            loss_final=0.01 + 0.3 * share * wave(job.layer) + 0.05 * share,
            tokens=job.tokens,
        )
        for job in bld_plan(program, "pieces")
        for share in [1 - (job.attention or job.ffn or NoOpFfn()).params(shape) / 2.7e6]
    )
    built = Built(program, build, SOURCE, costs, scores, results, evaluation, pieces)
    save = {
        build.costs("wide"): costs,
        build.scores("kl"): scores,
        build.evaluation("all"): evaluation,
        build.frontier("curve"): tables.FrontierResult(frontier="curve", search="fast", points=tuple(points)),
        **{build.solution(n): r for n, r in results.items()},
    }
    for path, artefact in save.items():
        write_text(path, artefact.canonical_json())
    write_text(build.library / "index.jsonl", "".join(p.model_dump_json() + "\n" for p in pieces))
    return built


def the_evaluation(parent: tables.Solution, results: dict[str, tables.SearchResult]) -> tables.Evaluation:
    def timed(solution: tables.Solution, error: float) -> dict[str, tables.Figure]:
        figures: dict[str, tables.Figure] = {}
        for name, prompt in (("chat", 128), ("rag", 2048)):
            m = {k.split(".")[1]: v for k, v in solution.metrics.items() if k.startswith(name + ".")}
            batch = solution.batches[name]
            prefill, decode = batch * prompt / m["ttft"] / error, batch / m["tpot"] / error**2
            figures[f"{name}.prefill_tokens_per_s"] = tables.Figure(value=prefill, unit="tok/s")
            figures[f"{name}.decode_tokens_per_s"] = tables.Figure(value=decode, unit="tok/s")
            figures[f"{name}.latency_s"] = tables.Figure(value=m["latency"] * error**1.5, unit="s")
            figures[f"{name}.throughput"] = tables.Figure(value=m["throughput"] / error**1.5, unit="tok/s")
        return figures

    def sizes(solution: tables.Solution) -> dict[str, tables.Figure]:
        params = solution.metrics["params"]
        checkpoint = tables.Figure(value=2 * params + 5120, unit="bytes")
        return {"params": tables.Figure(value=params), "checkpoint_bytes": checkpoint}

    def quality(
        kl: float, perplexity: float, agreement: float, accuracy: float = 0
    ) -> dict[str, tables.Figure]:
        figures = {
            "kl": tables.Figure(value=kl, stderr=kl / 30),
            "perplexity": tables.Figure(value=perplexity),
        }
        figures["top1_agreement"] = tables.Figure(value=agreement)
        return figures | ({"hellaswag": tables.Figure(value=accuracy, stderr=0.0155)} if accuracy else {})

    fast = results["fast"].solutions[0]
    of_parent = {
        "perplexity": tables.Figure(value=19.2134),
        "hellaswag": tables.Figure(value=0.4312, stderr=0.0157),
    }
    figures = {
        "parent": {**sizes(parent), **timed(parent, 1.021), **of_parent},
        "fast": {**sizes(fast), **timed(fast, 1.043), **quality(0.13571, 22.418, 0.8123, 0.4071)},
        "final": {**sizes(fast), **quality(0.08834, 20.907, 0.8517, 0.4183)},
        "greedy": quality(0.2112, 24.61, 0.77),
        "uniform": quality(0.398, 29.02, 0.69),
        "drop": quality(0.77, 41.5, 0.58),
    }
    models = [tables.ModelFigures(model=name, figures=shown) for name, shown in figures.items()]
    return tables.Evaluation(eval="all", models=tuple(models), comparisons=comparisons())


def comparisons() -> tuple[tables.ModelComparison, ...]:
    """What the child, and the child trained further, keep: the accuracies above, and a task at which both guess."""

    def kept(child: float, low: float, high: float) -> dict[str, tables.Kept]:
        asked = {"parent": 0.4312, "chance": 0.25, "items": 1000, "figures": ("hellaswag",), "child": child}
        rates = {"plain": child / 0.4312, "chance_corrected": (child - 0.25) / (0.4312 - 0.25)}
        one = tables.Kept.model_validate(
            {"verdict": "above_chance", "low": low, "high": high, **asked, **rates}
        )
        guessed = {"parent": 0.262, "chance": 0.25, "items": 570, "figures": ("puns",), "child": 0.2515}
        at_chance = tables.Kept.model_validate({"verdict": "parent_at_chance", "plain": 0.96, **guessed})
        return {"hellaswag": one, "puns": at_chance, "pooled": one}

    return (
        tables.ModelComparison(model="fast", kept=kept(0.4071, 0.7514, 0.9875)),
        tables.ModelComparison(model="final", kept=kept(0.4183, 0.8126, 1.0428)),
        tables.ModelComparison(model="greedy"),
    )


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The finished build. Do not write into it."""
    folder = tmp_path_factory.mktemp("build")
    return make_build(folder / "build", the_program(folder))
