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
from puzzledsl.data.rows import Stream, TokenRows, Tokens
from puzzledsl.ir import nodes
from puzzledsl.ir.source_location import span_of

DOCUMENTS_A_CALL = 1024
PACKING = "1"  # raise it when packing changes, so that caches are made again


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
    """Return the blocks of `token_rows` in memory: `ceil(tokens / context)` of them, int64 [N, context]."""
    return token_rows(source, base, tokenizer, context=context, tokens=tokens, seed=seed, cache=cache)[:]


def token_rows(
    source: nodes.Data,
    base: Path,
    tokenizer: Any,
    *,
    context: int,
    tokens: int,
    seed: int,
    cache: Path | None = None,
    scratch: Path | None = None,
) -> TokenRows:
    """`ceil(tokens / context)` blocks of the text in an order that `seed` fixes.

    The whole text is one stream of tokens cut into blocks; a smaller request with the same context and seed is a
    prefix of a larger one. Of a mix, each text is such a stream of its own, and blocks are drawn from them in
    its proportions. `base` is where relative paths start; `cache` is a directory for tokenised text, and `scratch` one for
    text that may not be kept. Raises DiagnosticError for missing or unreadable files and for too little text.
    """
    parts = parts_of(source)
    weights, blocks = [weight for _, weight in parts], -(-tokens // context)
    streams = [_stream(part, base, tokenizer, cache, scratch) for part, _ in parts]
    part_N = np.asarray(turns(weights, blocks), dtype=np.uint16)
    _check_enough(source, [stream.tokens for stream in streams], part_N, blocks, context)
    place_N = np.empty(blocks, dtype=np.int64)
    for part, stream in enumerate(streams):
        at = np.flatnonzero(part_N == part)
        order = torch.randperm(len(stream.tokens) // context, generator=torch.Generator().manual_seed(seed))
        place_N[at] = order[: len(at)].numpy()
    return TokenRows(streams, part_N, place_N, context)


def _check_enough(
    source: nodes.Data, streams: Sequence[Tokens], order: npt.NDArray[np.uint16], blocks: int, context: int
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


def _stream(
    source: nodes.Data, base: Path, tokenizer: Any, cache: Path | None, scratch: Path | None
) -> Stream:
    """Return the whole text as token ids, from the cache if it holds an intact copy."""
    files = files_of(source, base)
    if cache is not None and (files or not isinstance(source.source, nodes.HfData)):
        path = cache / f"{_digest(source, files, tokenizer)}.npy"
        if is_sealed(path):
            return Stream(path)
    elif scratch is not None:  # made anew each time: its source may have changed
        path = scratch / f"{source.name}.npy"
    else:
        return Stream(None, _tokenise(documents(source, base), tokenizer))
    with replacing(path) as temporary:
        _write(temporary, _documents_to_ids(documents(source, base), tokenizer))
        seal(temporary)
    return Stream(path)


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
