"""Write a trained child as a checkpoint directory: the untrained child's files with new values in its tensors."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from puzzledsl.base.files import appearing
from puzzledsl.child.checkpoint.shards import write_safetensors
from puzzledsl.models.families.tensors import LazyTensor, open_file


def write_child(
    state: Mapping[str, LazyTensor], child_dir: Path, out_dir: Path, extra: Mapping[str, str]
) -> None:
    """Write `out_dir` as `child_dir` is (config, code, tokenizer, shards, dtypes), with the weights of `state`.

    Tensors are read one at a time, in the order of `read_along`. `extra`: further text files by name. The directory appears
    whole or not at all; an older one is replaced. Raises KeyError when the checkpoint holds a tensor that `state` has not.
    """
    with appearing(out_dir) as directory:
        for source in sorted(child_dir.iterdir()):
            if source.is_file() and source.suffix != ".safetensors":
                shutil.copyfile(source, directory / source.name)
        for name, weights in _files(state, child_dir):
            write_safetensors(weights, directory / name)
            (directory / name).chmod(0o644)
        for name, text in extra.items():
            (directory / name).write_text(text, encoding="utf-8")


def read_along(state: Mapping[str, LazyTensor], child_dir: Path) -> None:
    """Read what `write_child` reads, tensor by tensor, and keep nothing: the part of a process that does not write."""
    for _, weights in _files(state, child_dir):
        for weight in weights.values():
            weight.read()


def _files(state: Mapping[str, LazyTensor], child_dir: Path) -> Iterator[tuple[str, dict[str, LazyTensor]]]:
    """Yield the name of each file of weights with the new tensors in it, in the dtypes of the old ones."""
    for source in sorted(child_dir.glob("*.safetensors")):
        stored = open_file(source)
        yield source.name, {name: state[name].cast(tensor.dtype) for name, tensor in stored.items()}
