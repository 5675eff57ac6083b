"""Token blocks in an order, read from memory-mapped files when they are asked for.

Shapes: N blocks, M of them, T context (tokens per block).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from puzzledsl.data.counts import counts_of

DIGEST_TOKENS = 1 << 18
Tokens = npt.NDArray[np.int32]


class Stream:
    """A whole text as token ids, int32: mapped from a .npy file, or in memory where there is no file.

    A token that losses do not count is stored as `~id`; `masked`: there are some.
    """

    def __init__(self, path: Path | None, tokens: Tokens | None = None) -> None:
        self.path = path
        if path is not None:
            tokens = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
            counts = counts_of(path)
            masked = counts is not None and counts.learned_tokens != counts.tokens
        assert tokens is not None
        self.tokens: Tokens = tokens
        self.masked = masked if path is not None else bool((tokens < 0).any())

    def __reduce__(self) -> tuple[type[Stream], tuple[Path | None, Tokens | None]]:
        return Stream, (self.path, self.tokens if self.path is None else None)


class TokenRows:
    """Token blocks in an order, read from memory-mapped streams when they are asked for: `rows[a:b]` is int64 [b - a, T].

    Pickled, it names the files of its streams; whoever gets it maps them without checking them again.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        part_N: npt.NDArray[np.uint16],
        place_N: npt.NDArray[np.int64],
        context: int,
    ) -> None:
        self._streams, self._part_N, self._place_N, self.context = list(streams), part_N, place_N, context

    def __len__(self) -> int:
        return len(self._part_N)

    @property
    def shape(self) -> tuple[int, int]:
        """Blocks and tokens of a block."""
        return len(self), self.context

    @property
    def masked(self) -> bool:
        """True if losses do not count all tokens of some text."""
        return any(stream.masked for stream in self._streams)

    def __getitem__(self, rows: slice) -> torch.LongTensor:
        """Read some blocks."""
        stored_MT = self._stored(rows)
        ids_MT = np.where(stored_MT < 0, ~stored_MT, stored_MT) if self.masked else stored_MT
        return torch.LongTensor(torch.from_numpy(ids_MT))

    def learned(self, rows: slice) -> torch.BoolTensor | None:
        """Return, for each position of some blocks, whether losses count its prediction, bool [b - a, T]; None if all count.

        A position predicts the next token. Where some tokens do not count, the last position of a block, whose next token is in
        another block, does not count either.
        """
        if not self.masked:
            return None
        stored_MT = self._stored(rows)
        counts_MT = np.zeros(stored_MT.shape, dtype=np.bool_)
        counts_MT[:, :-1] = stored_MT[:, 1:] >= 0
        return torch.BoolTensor(torch.from_numpy(counts_MT))

    def _stored(self, rows: slice) -> npt.NDArray[np.int64]:
        part_M, place_M = self._part_N[rows], self._place_N[rows]
        rows_MT = np.empty((len(part_M), self.context), dtype=np.int64)
        for part, stream in enumerate(self._streams):
            at = np.flatnonzero(part_M == part)
            blocks = len(stream.tokens) // self.context
            rows_MT[at] = stream.tokens[: blocks * self.context].reshape(blocks, self.context)[place_M[at]]
        return rows_MT

    def part(self, first: int, last: int | None = None) -> TokenRows:
        """Return some of the blocks, without reading them."""
        rows = slice(first, last)
        return TokenRows(self._streams, self._part_N[rows], self._place_N[rows], self.context)

    def digest(self) -> str:
        """Return the SHA-256 of all blocks as they are stored, as int64 numbers; a few of them are in memory at a time."""
        found, step = hashlib.sha256(), max(1, DIGEST_TOKENS // self.context)
        for first in range(0, len(self), step):
            found.update(self._stored(slice(first, first + step)).data)
        return found.hexdigest()
