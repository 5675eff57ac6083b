"""Write a trained child as a checkpoint directory: the untrained child's files with new values in its tensors."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from puzzledsl.child.checkpoint.shards import write_safetensors
from puzzledsl.models.families.tensors import LazyTensor, open_file


def write_child(
    state: Mapping[str, Tensor], child_dir: Path, out_dir: Path, extra: Mapping[str, str]
) -> None:
    """Write `out_dir` as `child_dir` is (config, code, tokenizer, shards, dtypes), with the weights of `state`.

    `extra`: further text files by name. The directory appears whole or not at all; an older one is replaced.
    Raises KeyError when the checkpoint holds a tensor that `state` has not.
    """
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out_dir.parent, prefix=f".{out_dir.name}.", suffix=".tmp"))
    try:
        temporary.chmod(0o755)
        for source in sorted(child_dir.iterdir()):
            if source.suffix == ".safetensors":
                _write_shard(source, temporary / source.name, state)
            elif source.is_file():
                shutil.copyfile(source, temporary / source.name)
        for name, text in extra.items():
            (temporary / name).write_text(text, encoding="utf-8")
        for path in temporary.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        _take_place(temporary, out_dir)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_shard(source: Path, target: Path, state: Mapping[str, Tensor]) -> None:
    stored = open_file(source)
    new = {name: LazyTensor.of(state[name]).cast(tensor.dtype) for name, tensor in stored.items()}
    write_safetensors(new, target)
    target.chmod(0o644)


def _take_place(temporary: Path, out_dir: Path) -> None:
    if not out_dir.exists():
        temporary.replace(out_dir)
        return
    aside = Path(tempfile.mkdtemp(dir=out_dir.parent, prefix=f".{out_dir.name}.", suffix=".old"))
    out_dir.replace(aside)
    temporary.replace(out_dir)
    shutil.rmtree(aside)
