"""Blocks of llama.cpp's storage types from weights that lie on their grids (ggml-common.h: block_q8_0 and its like).

A block of 32 numbers is a float16 scale, then the codes: 8 bits each; or offset to be positive, 4 bits each, number i beside
number i + 16 in a byte, the fifth bits before them in one word of 32. Codes of `iq4_nl` are places in its table of values.

Shapes: R rows of C numbers; N blocks.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from puzzledsl.alternatives.precision import Precision
from puzzledsl.models.precision.gptq import codes_of

Bytes = NDArray[np.uint8]
BLOCK = 32


def packed(weight: Tensor, precision: Precision) -> Bytes:
    """Return the blocks of a tensor (..., C) as bytes (..., bytes of a row). Raises ValueError off the grid."""
    rows: Any = weight.flatten(0, -2)
    found = codes_of(rows, precision)
    if found is None:
        raise ValueError(f"weights that are not on the grid of {precision.name}")
    codes_N32: NDArray[np.int16] = found.codes.view(-1, BLOCK).numpy().astype(np.int16)
    scales_N2 = found.scales.view(-1, 1).numpy().astype(np.float16).view(np.uint8)
    blocks = np.concatenate([scales_N2, *_coded(codes_N32, precision)], axis=1)
    return blocks.reshape(*weight.shape[:-1], -1)


def _coded(codes_N32: NDArray[np.int16], precision: Precision) -> list[Bytes]:
    if precision.bits == 8:
        return [codes_N32.astype(np.int8).view(np.uint8)]
    if precision.levels:
        offset = np.searchsorted(precision.levels, codes_N32).astype(np.uint8)
    else:
        offset = (codes_N32 - precision.low).astype(np.uint8)
    halves = ((offset[:, :16] & 0x0F) | ((offset[:, 16:] & 0x0F) << 4)).astype(np.uint8)
    if precision.bits == 4:
        return [halves]
    fifth = np.packbits(offset >> 4, axis=1, bitorder="little")
    return [fifth, halves]


def tensors_of(path: Path) -> list[Any]:
    """Return the tensors of a GGUF file. Raises ValueError, IndexError or OverflowError for another file."""
    import gguf

    class Reader(gguf.GGUFReader):
        """Passes over arrays, and slices no memory map: a vocabulary, read item by item, takes longer than all tensors."""

        @property
        def data(self) -> Any:
            return self._plain

        @data.setter
        def data(self, mapped: Any) -> None:
            self._plain = np.asarray(mapped)

        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            if raw_type != gguf.GGUFValueType.ARRAY or self.byte_order == "S":
                return super()._get_field_parts(orig_offs, raw_type)
            item, count = self._get(orig_offs, np.uint32)[0], int(self._get(orig_offs + 4, np.uint64)[0])
            at = orig_offs + 12
            if item == gguf.GGUFValueType.STRING:
                held = self._plain.data
                for _ in range(count):
                    at += 8 + int.from_bytes(held[at : at + 8], sys.byteorder)
                    if at > len(held):
                        raise ValueError("the file ends within a vocabulary")
            elif (scalar := self.gguf_scalar_to_np.get(gguf.GGUFValueType(item))) is not None:
                at += count * np.dtype(scalar).itemsize
            else:
                return super()._get_field_parts(orig_offs, raw_type)
            return at - orig_offs, [], [], []

    return list(Reader(path).tensors)
