"""Convert a child (or a parent) to the format of each engine, in a temporary directory or at a given place."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never, cast, get_args

import torch

from puzzledsl.child.checkpoint.contents import ChildFiles
from puzzledsl.export.gguf_file import Encode, GgufDtype, write_gguf
from puzzledsl.export.lowering import choose, lower
from puzzledsl.export.mlx_directory import write_mlx
from puzzledsl.export.vllm_directory import write_for
from puzzledsl.ir.engines import RUNTIMES
from puzzledsl.ir.tables import EngineName

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
