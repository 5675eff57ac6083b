"""Convert a child's directory to the declared export: for transformers, vLLM or MLX, or a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, assert_never, cast

import torch

from puzzledsl.alternatives.support import Architecture
from puzzledsl.base.progress import Progress
from puzzledsl.child.checkpoint.contents import ChildFiles, from_directory
from puzzledsl.export.directories import is_native, write_for, write_mlx
from puzzledsl.export.gguf_file import GgufDtype, write_gguf
from puzzledsl.export.gguf_recipe import Importance, write_recipe
from puzzledsl.export.lowering import choose, lower, served_caches
from puzzledsl.ir.engines import RUNTIMES, Runtime
from puzzledsl.ir.measured_engines import RECIPES

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def write_export(
    child_dir: Path,
    target: Path,
    format: Literal["hf", "gguf", "mlx"],
    runtime: str,
    dtype: str | None = None,
    *,
    name: str | None = None,
    progress: Progress | None = None,
    importance: Importance | None = None,
    usual: str | None = None,
) -> None:
    """Write the child of `child_dir` to `target`, rewritten for a runtime that lacks some of its alternatives.

    `dtype`: default the child's; for GGUF `usual`, in which it was measured, or f16. `progress` hears of llama.cpp's recipes,
    which weigh errors by `importance`. Raises DiagnosticError.
    """
    child, found = from_directory(child_dir), RUNTIMES[runtime]
    title = name or target.stem
    match format:
        case "hf":
            child = child if dtype is None else child.cast(DTYPES[dtype])
            engine = choose(child, found)
            lowered = lower(child, engine)
            card = _card(child_dir, child, lowered, found, engine)
            write_for(engine, lowered, child_dir, target, card)
        case "gguf" if dtype is not None and dtype in RECIPES:
            recipe = RECIPES[dtype]
            given = (child, child_dir, target, recipe)
            done = write_recipe(*given, name=title, progress=progress, importance=importance)
            if progress is not None:
                said = f"{title}: {done.in_words(recipe)}"
                progress.log("recipe", text=said, export=title, types=done.types, fallback=done.other)
        case "gguf":
            write_gguf(child, child_dir, target, cast(GgufDtype, dtype or usual or "f16"), name=title)
        case "mlx":
            engine = choose(child, found)
            card = _card(child_dir, child, lower(child, engine), found, engine)
            wanted = None if dtype is None else DTYPES[dtype]
            write_mlx(child, child_dir, target, card, dtype=wanted)
        case _:
            assert_never(format)


def _card(
    child_dir: Path, child: ChildFiles, lowered: ChildFiles, runtime: Runtime, engine: Architecture
) -> str:
    """The child's own card with what is different in this copy; empty where the child has no card."""
    path = child_dir / "README.md"
    if not path.is_file():
        return ""
    card = path.read_text(encoding="utf-8").rstrip("\n")
    lines = [card, "", f"## For {runtime.title}", "", _how_to_load(runtime, engine, child), ""]
    if lowered.layers != child.layers:
        rows = [f"| {i} | {a.name} | {f.name} |" for i, (a, f) in enumerate(lowered.layers)]
        lines += [
            f"{runtime.title} (looked at: {runtime.version}, `{engine.source}`) lacks some of these sub-blocks. In this copy",
            "they are rewritten into others that compute the same; what it stores:",
            "",
            "| layer | attention | FFN |",
            "|---|---|---|",
            *rows,
            "",
        ]
    return "\n".join(lines)


def _how_to_load(runtime: Runtime, engine: Architecture, child: ChildFiles) -> str:
    options = "--trust-remote-code", served_caches(child, runtime).flags
    served = " ".join(filter(None, ("vllm serve DIRECTORY", *options)))
    match runtime.name:
        case "vllm" if engine.grouped:
            return f"`{served}` (its Transformers backend runs the model that is here)."
        case "vllm":
            return f"`{served}` (its own DeciLM model runs; the code here is the configuration's)."
        case "mlx" if is_native(child):
            return "`mlx_lm.load(DIRECTORY)`."
        case "mlx":
            return "`mlx_lm.load(DIRECTORY, trust_remote_code=True)`: `mlx_model.py` holds the model."
        case _:
            return "`AutoModelForCausalLM.from_pretrained(DIRECTORY, trust_remote_code=True)`."
