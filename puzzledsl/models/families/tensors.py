"""Weights on disk, read one tensor at a time on request, from safetensors files that are checked first.

Guarantees: every name is in exactly one file of the directory itself, every tensor's bytes lie inside its
file, and their number is what shape and dtype say. No pickle, no code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.frozen import Record
from puzzledsl.models.errors import DamagedWeights, NoCheckpoint

INDEX = "model.safetensors.index.json"
MAX_HEADER_BYTES = 100_000_000  # the format's own limit
DTYPES: dict[str, torch.dtype] = {  # safetensors' name -> dtype, of the types that are read
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
}
CHUNK_BYTES = 1 << 26  # the most that `LazyTensor.chunks` reads at a time, if rows are no larger
CODES = {dtype: code for code, dtype in DTYPES.items()} | {
    torch.float8_e4m3fn: "F8_E4M3",
    torch.uint32: "U32",
}
"""Dtype -> safetensors' name, of the types that are written. F8_E4M3 and U32 hold codes, which mean nothing without scales."""


def file_header(
    tensors: Mapping[str, Tensor | LazyTensor], metadata: Mapping[str, str], alignment: int = 8
) -> bytes:
    """Return the header of a safetensors file of these tensors in this order, padded to a multiple of `alignment` bytes."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + tensor.nbytes
        sizes = {"dtype": CODES[tensor.dtype], "shape": list(tensor.shape)}
        header[name] = {**sizes, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % alignment)
    return len(text).to_bytes(8, "little") + text


class LazyTensor(Record):
    """A tensor that is read when `read` is called; its shape, dtype and size are known before."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]
    read_rows: Callable[[int, int], Tensor] | None = None
    """Read a range of the first dimension alone; None if only the whole can be read."""

    @property
    def nbytes(self) -> int:
        """Bytes in its own dtype."""
        return math.prod(self.shape) * self.dtype.itemsize

    def rows(self, start: int, stop: int) -> Tensor:
        """Return a range of the first dimension."""
        return self.read()[start:stop] if self.read_rows is None else self.read_rows(start, stop)

    def chunks(self) -> Iterator[Tensor]:
        """Yield the tensor in ranges of rows of up to CHUNK_BYTES, at least a row; whole if only the whole can be read."""
        if self.read_rows is None or self.nbytes <= CHUNK_BYTES:
            yield self.read()
            return
        step = max(1, CHUNK_BYTES * self.shape[0] // self.nbytes)
        for start in range(0, self.shape[0], step):
            yield self.read_rows(start, min(start + step, self.shape[0]))

    def cast(self, dtype: torch.dtype) -> LazyTensor:
        """Return the tensor in another dtype; it is converted when it is read."""
        if dtype == self.dtype:
            return self
        rows = self.read_rows
        some = None if rows is None else lambda start, stop: rows(start, stop).to(dtype)
        return LazyTensor(self.shape, dtype, lambda: self.read().to(dtype), some)

    @classmethod
    def of(cls, tensor: Tensor) -> Self:
        """Wrap a tensor that is in memory already; reading returns it on the CPU."""
        return cls(tuple(tensor.shape), tensor.dtype, lambda: tensor.detach().cpu().contiguous())


def open_weights(directory: Path) -> dict[str, LazyTensor]:
    """All tensors of a checkpoint directory, in order of name. Raises DiagnosticError (NoCheckpoint, DamagedWeights)."""
    files, index = _files(directory)
    found: dict[str, LazyTensor] = {}
    for path in files:
        for name, tensor in open_file(path).items():
            if name in found:
                raise _damaged(path, f"`{name}` is in another file too")
            if index is not None and index.get(name) != path.name:
                raise _damaged(path, f"the index does not say that `{name}` is in it")
            found[name] = tensor
    if index is not None and (lost := sorted(set(index) - set(found))):
        raise _damaged(directory / index[lost[0]], f"the index says that `{lost[0]}` is in it, and it is not")
    return dict(sorted(found.items()))


def _files(directory: Path) -> tuple[list[Path], dict[str, str] | None]:
    """The files that hold the weights, and the index where there is one."""
    path = directory / INDEX
    if not path.is_file():
        files = sorted(directory.glob("*.safetensors"))
        if not files:
            raise DiagnosticError(NoCheckpoint(None, path=directory, reason="it has no .safetensors weights"))
        return files, None
    try:
        index = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, "it is no index of safetensors files") from error
    if not isinstance(index, dict) or not all(isinstance(name, str) for name in index.values()):
        raise _damaged(path, "its `weight_map` does not map names to files")
    names = sorted(set(index.values()))
    for name in names:
        if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            raise _damaged(path, f"`{name}` is not the name of a .safetensors file beside it")
        if not (directory / name).is_file():
            raise _damaged(path, f"the file `{name}` is missing")
    return [directory / name for name in names], index


def open_file(path: Path) -> dict[str, LazyTensor]:
    """The tensors of one safetensors file. Raises DiagnosticError (DamagedWeights)."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
                reason = "its header is longer than the file; it is truncated or no safetensors file"
                raise _damaged(path, reason)
            header = json.loads(file.read(length), object_pairs_hook=lambda pairs: _once(path, pairs))
    except OSError as error:
        raise _damaged(path, f"it cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "its header is not readable JSON") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is no table of tensors")
    start = 8 + length
    header.pop("__metadata__", None)
    return {name: _tensor(path, start, size - start, name, entry) for name, entry in header.items()}


def _once(path: Path, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object of a header as a dict. Raises DiagnosticError (DamagedWeights) for a name that it has twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise _damaged(path, f"its header has `{twice}` twice")
    return found


def _tensor(path: Path, start: int, room: int, name: str, entry: Any) -> LazyTensor:
    try:
        code, sizes, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        shape = tuple(_whole(size) for size in sizes)
        begin, end = _whole(begin), _whole(end)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"the entry of `{name}` lacks a dtype, a shape or its place") from error
    if not isinstance(code, str) or code not in DTYPES:
        raise _damaged(path, f"`{name}` is of dtype {code}, which is not read")
    dtype = DTYPES[code]
    if not begin <= end <= room:
        raise _damaged(path, f"`{name}` ends {end - room:,} bytes past the end of the file; it is truncated")
    if end - begin != math.prod(shape) * dtype.itemsize:
        needed = f"{code} {list(shape)} needs {math.prod(shape) * dtype.itemsize:,}"
        raise _damaged(path, f"`{name}` has {end - begin:,} bytes, and {needed}")
    first = start + begin
    row = (end - begin) // max(1, shape[0]) if shape else 0

    def rows(low: int, high: int) -> Tensor:
        return _read(path, first + low * row, (high - low) * row, (high - low, *shape[1:]), dtype)

    whole = lambda: _read(path, first, end - begin, shape, dtype)  # noqa: E731
    return LazyTensor(shape, dtype, whole, rows if shape else None)


def _whole(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError(value)


def _read(path: Path, offset: int, nbytes: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if nbytes == 0:
        return torch.empty(shape, dtype=dtype)
    buffer = bytearray(nbytes)
    try:
        _fill(path, offset, buffer)
    except OSError as error:
        raise _damaged(path, f"it cannot be read ({error.strerror})") from error
    return torch.frombuffer(buffer, dtype=dtype).reshape(shape)


def _fill(path: Path, offset: int, buffer: bytearray) -> None:
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        view = memoryview(buffer)
        while len(view):
            if not (count := file.readinto(view)):
                raise _damaged(path, "it became shorter while it was read")
            view = view[count:]


def _damaged(path: Path, reason: str) -> DiagnosticError:
    return DiagnosticError(DamagedWeights(None, path=path, reason=reason))
