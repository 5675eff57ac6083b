"""Small programs with a random parent and text, for everything that makes or uses pieces."""

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.base.progress import Progress, Silent
from puzzledsl.cluster.tasks import Executor
from puzzledsl.ir import nodes
from puzzledsl.models.families.access import shape_of
from puzzledsl.pieces.store.library import Library, StageInputs
from puzzledsl.pieces.train.run import run_bld
from puzzledsl.plan.bld import bld_plan
from tests.tiny import save_tiny, tiny_model

WHERE = nodes.Where(file="p.pzl", line=1, column=1, end_line=1, end_column=9)
ATTENTION: tuple[AttentionAlternative, ...] = (
    ParentAttention(),
    GqaAttention(kv_heads=1),
    GqaAttention(kv_heads=2, window=6),
    LinearAttention(),
    NoOpAttention(),
)
FFN: tuple[FfnAlternative, ...] = (ParentFfn(), MlpFfn(width=24), MlpFfn(width=8), LinearFfn(), NoOpFfn())


def write_text(base: Path, words: int = 600) -> None:
    """`base/text.txt`: sentences from a small vocabulary, so that bytes are predictable enough to be learnt."""
    rng = random.Random(0)
    vocabulary = [f"{a}{b}" for a in ("ka", "lo", "mi", "su") for b in ("ra", "ne", "to")]
    paragraphs = [" ".join(rng.choice(vocabulary) for _ in range(20)) for _ in range(words // 20)]
    (base / "text.txt").write_text("\n\n".join(paragraphs))


def make_program(
    base: Path,
    family: str = "llama",
    *,
    attention: Sequence[AttentionAlternative] = ATTENTION,
    ffn: Sequence[FfnAlternative] = FFN,
    method: nodes.ReplaceOne | None = None,
    mode: str = "decoupled",
    model: dict[str, Any] | None = None,
    **bld: Any,
) -> nodes.Program:
    """Parent `p` saved in `base/parent`, data `mix`, space `w`, bld `b`, score `s`."""
    base.mkdir(parents=True, exist_ok=True)
    sizes = dict(model or {})
    if not (base / "parent").exists():
        save_tiny(base / "parent", family, **sizes)
        write_text(base)
    shape = shape_of(tiny_model(family, **sizes).config)
    choice = nodes.LayerChoice(attention=tuple(attention), ffn=tuple(ffn))
    usual = {"tokens": 256, "context": 16, "batch": 4, "calibration_tokens": 256, "seed": 3, "data": "mix"}
    settings = usual | bld
    settings.setdefault("lr", nodes.Schedule(peak=3e-3, warmup=0.1))
    method = method or nodes.ReplaceOne(metric="kl_divergence", samples=40)
    parent = nodes.Parent(name="p", source=nodes.HfSource(id="parent"), shape=shape, where=WHERE)
    data = nodes.Data(name="mix", source=nodes.TextData(paths=("text.txt",)), where=WHERE)
    return nodes.Program(
        source="p.pzl",
        parents={"p": parent},
        data={"mix": data},
        spaces={"w": nodes.Space(name="w", parent="p", layers=(choice,) * shape.layers, where=WHERE)},
        blds={"b": nodes.Bld(name="b", space="w", mode=mode, where=WHERE, **settings)},  # type: ignore[arg-type]
        scores={"s": nodes.Score(name="s", bld="b", space="w", method=method, where=WHERE)},
    )


def make_pieces(
    program: nodes.Program,
    base: Path,
    build: str = "build",
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> Library:
    """The library of `base/build`, with all pieces of bld `b`."""
    library, jobs = Library(base / build / "library"), bld_plan(program, "b")
    given = program, "b", base / "parent", base, library, jobs, base / build / "work", progress or Silent()
    run_bld(StageInputs(*given, executor or Executor()))
    assert len(library.pieces()) == len(jobs) and not (base / build / "work").exists()
    return library


def contents(library: Library) -> dict[str, bytes]:
    """The files of a library."""
    return {path.name: path.read_bytes() for path in library.root.iterdir() if not path.name.startswith(".")}


def exit_code(action: Callable[[], object]) -> int:
    """The exit code of a fork of this process that does something."""
    if (child := os.fork()) == 0:
        try:
            action()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
