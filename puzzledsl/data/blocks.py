"""Token blocks of documents: tokenised once, packed, cached by digest, shuffled by seed; and documents that texts share.

Shapes: N blocks, T context (tokens per block).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress, Silent
from puzzledsl.data.counts import most_blocks, parts_of, turns
from puzzledsl.data.documents import documents
from puzzledsl.data.errors import MixTooShort, NotEnoughText
from puzzledsl.data.source import Conversation, Document, Place, Text
from puzzledsl.data.streams import TokenRows, Tokens, in_part, stream_of
from puzzledsl.data.tasks import read_tasks
from puzzledsl.ir import nodes
from puzzledsl.ir.base import span_of


def digests_of(data: nodes.Data, base: Path) -> Iterator[bytes]:
    """Yield a digest of each document but its white space. Raises DiagnosticError."""
    for document in _read(data, base):
        match document:
            case Text(text=text):
                yield _digest(text)
            case Conversation(messages=messages):
                yield _digest(" ".join(str(message.get("content", "")) for message in messages))


def _read(data: nodes.Data, base: Path) -> Iterator[Document]:
    """Yield the documents of a text's parts, as `part: 0%..95%` means them."""
    for part, _ in parts_of(data):
        source = part.source
        if not isinstance(source, nodes.MixData):
            yield from (each for each in documents(part, base) if in_part(each, source.part))


def digests_of_tasks(paths: tuple[str, ...], items: int | None, base: Path) -> Iterator[bytes]:
    """Yield a digest of each question that is read, with its choices. Raises DiagnosticError for a missing or wrong file."""
    for path in paths:
        for item in read_tasks(base / path, items):
            yield _digest(" ".join((*dict.fromkeys(item.contexts), *item.choices)))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(" ".join(text.split()).encode(), digest_size=16).digest()


SILENT = Silent()


def token_rows(
    source: nodes.Data,
    base: Path,
    tokenizer: Any,
    *,
    context: int,
    tokens: int,
    seed: int,
    cache: Path,
    progress: Progress = SILENT,
    or_fewer: bool = False,
) -> TokenRows:
    """`ceil(tokens / context)` blocks of the text in an order that `seed` fixes.

    The whole text is one stream of tokens cut into blocks; a smaller request with the same context and seed is a
    prefix of a larger one. Of a mix, each text is such a stream of its own, and blocks are drawn from them in
    its proportions. `base` is where relative paths start; `cache` is for tokenised text. `progress` is told the counts of
    text that is tokenised anew. Raises DiagnosticError for missing files and too little text, of which there are as many
    blocks as it has if `or_fewer`.
    """
    parts = parts_of(source)
    weights, blocks = [weight for _, weight in parts], -(-tokens // context)
    places = [Place.of(part, base) for part, _ in parts]
    streams = [stream_of(place, tokenizer, cache, progress) for place in places]
    if or_fewer:
        blocks = most_blocks(weights, [len(stream.tokens) // context for stream in streams], blocks)
    part_N = np.asarray(turns(weights, blocks), dtype=np.uint16)
    _check_enough(source, [stream.tokens for stream in streams], part_N, blocks, context)
    place_N = np.empty(blocks, dtype=np.int64)
    for part, stream in enumerate(streams):
        at = np.flatnonzero(part_N == part)
        order = torch.randperm(len(stream.tokens) // context, generator=torch.Generator().manual_seed(seed))
        place_N[at] = order[: len(at)].numpy()
    return TokenRows(streams, part_N, place_N, context)


def rows_behind(first: int, read: Callable[[int], TokenRows], progress: Progress, warning: str) -> TokenRows:
    """Return `read(first)`: blocks behind the first ones; where the text is too short for them, with a warning, `read(0)`."""
    try:
        return read(first)
    except DiagnosticError as error:
        if not first or not isinstance(error.diagnostics[0], NotEnoughText):
            raise
        progress.log("warning", text=warning)
        return read(0)


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
