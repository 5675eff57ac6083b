"""Token blocks of documents: tokenised once, packed, cached by digest, shuffled by seed.

Shapes: N blocks, T context (tokens per block).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from puzzledsl.base.checksums import is_sealed, seal
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.files import replacing, sha256_of
from puzzledsl.data.documents import documents, files_of
from puzzledsl.data.errors import MixTooShort, NotEnoughText
from puzzledsl.data.mixing import most_blocks, parts_of, turns
from puzzledsl.ir import nodes
from puzzledsl.ir.source_location import span_of

DOCUMENTS_A_CALL = 1024
PACKING = "1"  # raise it when packing changes, so that caches are made again
Tokens = npt.NDArray[np.int32]


def token_blocks(
    source: nodes.Data,
    base: Path,
    tokenizer: Any,
    *,
    context: int,
    tokens: int,
    seed: int,
    cache: Path | None = None,
) -> torch.LongTensor:
    """`ceil(tokens / context)` blocks of the text, int64 [N, context], in an order that `seed` fixes.

    The whole text is one stream of tokens cut into blocks; a smaller request with the same context and seed is a
    prefix of a larger one. Of a mix, each text is such a stream of its own, and blocks are drawn from them in
    its proportions. `base` is where relative paths start; `cache` is a directory for tokenised text. Raises
    DiagnosticError for missing or unreadable files and for too little text.
    """
    parts = parts_of(source)
    weights, blocks = [weight for _, weight in parts], -(-tokens // context)
    streams = [_stream(part, base, tokenizer, cache) for part, _ in parts]
    order = np.asarray(turns(weights, blocks), dtype=np.int64)
    _check_enough(source, streams, order, blocks, context)
    rows_NT = np.empty((blocks, context), dtype=np.int64)
    for part, stream in enumerate(streams):
        at = np.flatnonzero(order == part)
        rows_NT[at] = _shuffled(stream, context, len(at), seed)
    return torch.LongTensor(torch.from_numpy(rows_NT))


def _shuffled(stream: Tokens, context: int, blocks: int, seed: int) -> Tokens:
    """The first blocks of a text in the order of `seed`, [blocks, context]."""
    available = len(stream) // context
    order = torch.randperm(available, generator=torch.Generator().manual_seed(seed))[:blocks]
    rows: Tokens = stream[: available * context].reshape(available, context)[order.numpy()]
    return rows


def _check_enough(
    source: nodes.Data, streams: Sequence[Tokens], order: npt.NDArray[np.int64], blocks: int, context: int
) -> None:
    """Raise DiagnosticError (NotEnoughText, MixTooShort) if a text has fewer blocks than are drawn from it."""
    available = [len(stream) // context for stream in streams]
    short = [p for p, count in enumerate(available) if count < int((order == p).sum())]
    if not short:
        return
    parts = parts_of(source)
    if not isinstance(source.source, nodes.MixData):
        raise DiagnosticError(
            NotEnoughText(
                span_of(source.where),
                name=source.name,
                got=len(streams[0]),
                needed=blocks * context,
                blocks=blocks,
                context=context,
            )
        )
    most = most_blocks([weight for _, weight in parts], available, blocks) * context
    problems = [
        MixTooShort(
            span_of(source.where),
            name=source.name,
            part=parts[p][0].name,
            got=len(streams[p]),
            needed=int((order == p).sum()) * context,
            most=most,
        )
        for p in short
    ]
    raise DiagnosticError(*problems)


def _stream(source: nodes.Data, base: Path, tokenizer: Any, cache: Path | None) -> Tokens:
    """Return the whole text as token ids, int32 [tokens], from the cache if it holds an intact copy."""
    files = files_of(source, base)
    if cache is None or (not files and isinstance(source.source, nodes.HfData)):
        return _tokenise(documents(source, base), tokenizer)
    path = cache / f"{_digest(source, files, tokenizer)}.npy"
    if not is_sealed(path):  # absent or damaged: make it
        with replacing(path) as temporary:
            _write(temporary, _documents_to_ids(documents(source, base), tokenizer))
            seal(temporary)
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _write(path: Path, parts: Iterable[Sequence[int]]) -> None:
    """Write all parts as one .npy array, part by part, so that text need not fit in memory.

    Not `np.save`: on a full disk it raises an OSError that does not say so.
    """
    with path.open("wb") as file:
        _write_header(file, 0)
        start = file.tell()
        for ids in parts:
            file.write(np.asarray(ids, dtype=np.int32).tobytes())
        count = (file.tell() - start) // np.dtype(np.int32).itemsize
        file.seek(0)
        _write_header(file, count)
        if file.tell() != start:
            raise RuntimeError("numpy pads its headers so that an array can grow")


def _write_header(file: BinaryIO, count: int) -> None:
    fields = {"descr": "<i4", "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, fields)


def _digest(source: nodes.Data, files: Iterable[Path], tokenizer: Any) -> str:
    parts = [
        PACKING,
        source.source.model_dump_json(),
        fingerprint(tokenizer),
        *(sha256_of(file) for file in files),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def fingerprint(tokenizer: Any) -> str:
    """Return a digest of all that a tokenizer's output depends on: vocabulary, merges, normalisation, special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    special = f"{tokenizer.bos_token_id} {tokenizer.eos_token_id} {type(tokenizer).__name__}"
    return hashlib.sha256(f"{special}\n{rules}".encode()).hexdigest()


def _tokenise(texts: Iterable[str], tokenizer: Any) -> Tokens:
    parts = [np.asarray(ids, dtype=np.int32) for ids in _documents_to_ids(texts, tokenizer)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)


def _documents_to_ids(texts: Iterable[str], tokenizer: Any) -> Iterator[list[int]]:
    """Yield the token ids of each document, with the tokenizer's first token and its end-of-text token, if it has them."""
    end, remaining = tokenizer.eos_token_id, iter(texts)
    while batch := list(islice(remaining, DOCUMENTS_A_CALL)):
        for ids in tokenizer(batch, return_attention_mask=False, verbose=False)["input_ids"]:
            yield ids if end is None or ids[-1:] == [end] else [*ids, end]
