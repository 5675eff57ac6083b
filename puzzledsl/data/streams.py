"""One source as one stream of tokens: its documents picked, copies dropped, tokenised, and kept by digest; token blocks.

A token that losses do not count is stored as `~id`, a negative number. Behind the array, its file has the counts as JSON.
Blocks in an order that a seed fixes are read from the memory-mapped files when they are asked for.

Shapes: N blocks, M of them, T context (tokens per block).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from puzzledsl.base.diagnostics import Args, DiagnosticError
from puzzledsl.base.files import is_sealed, replacing, seal, sha256_of
from puzzledsl.base.progress import Progress, Silent
from puzzledsl.data.chat import ASSISTANT, ChatWriter, template_of
from puzzledsl.data.counts import counts_of, in_words, most_blocks, parts_of, turns
from puzzledsl.data.documents import (
    Conversation,
    Document,
    Place,
    Text,
    TokenDocument,
    documents,
    documents_at,
    files_at,
)
from puzzledsl.data.errors import AnswersNotFound, MixTooShort, NoDocuments, NotEnoughText
from puzzledsl.data.tasks import read_tasks
from puzzledsl.ir import nodes
from puzzledsl.ir.base import span_of
from puzzledsl.ir.tables import TextCounts

DIGEST_TOKENS = 1 << 18
Tokens = npt.NDArray[np.int32]


class Stream:
    """A text as token ids, int32, mapped from a .npy file. `masked`: losses do not count some tokens, stored as `~id`."""

    def __init__(self, path: Path) -> None:
        self.path, counts = path, counts_of(path)
        self.tokens: Tokens = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        self.masked = counts is not None and counts.learned_tokens != counts.tokens

    def __reduce__(self) -> tuple[type[Stream], tuple[Path]]:
        return Stream, (self.path,)


class TokenRows:
    """Token blocks of mapped streams; `rows[a:b]` is int64 [b - a, T]. Block n is block `place_N[n]` of stream `part_N[n]`."""

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
        """Read some blocks, int64 [M, T]: plain ids, also of tokens that losses do not count."""
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
        """Return the blocks from `first` up to `last`, exclusive (None: all behind), without reading them."""
        rows = slice(first, last)
        return TokenRows(self._streams, self._part_N[rows], self._place_N[rows], self.context)

    def digest(self) -> str:
        """Return the SHA-256 of all blocks as they are stored, as int64 numbers; a few of them are in memory at a time."""
        found, step = hashlib.sha256(), max(1, DIGEST_TOKENS // self.context)
        for first in range(0, len(self), step):
            found.update(self._stored(slice(first, first + step)).data)
        return found.hexdigest()


DOCUMENTS_A_CALL = 1024
PACKING = "1"  # raise it when packing changes, so that caches are made again
DISTINCT = "distinct"  # marks caches whose exact copies are dropped
DIGEST_BITS = 64
TELL_S = 20.0  # seconds between two messages about a text that is being tokenised


def stream_of(place: Place, tokenizer: Any, cache: Path, progress: Progress) -> Stream:
    """Return a source's whole stream, from the cache if it holds an intact copy.

    A data set of the hub is read once for each cache, so that all stages see the same text. The counts are logged when a stream
    is made. Raises DiagnosticError.
    """
    path = path_of(place, tokenizer, cache)
    if is_sealed(path):
        return Stream(path)
    making = Making(place, tokenizer)
    with replacing(path) as temporary:
        _write(temporary, making, progress)
        seal(temporary)
    counts = making.counts
    progress.log("text", text=in_words(counts), **counts.model_dump(mode="json"))
    return Stream(path)


def path_of(place: Place, tokenizer: Any, cache: Path) -> Path:
    """Return a source's file in `cache`, named by a digest of what it depends on. Raises DiagnosticError for missing files."""
    source, files = place.source, files_at(place)
    parts = [PACKING, source.model_dump_json(), fingerprint(tokenizer), *(sha256_of(file) for file in files)]
    if isinstance(source, nodes.Rows):
        parts.append(DISTINCT if drops_copies(source) else "")
        if source.messages is not None:
            parts.append(template_of(tokenizer))
    return cache / f"{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()}.npy"


def try_first(place: Place, tokenizer: Any, count: int) -> None:
    """Read and tokenise the first `count` documents of a source. Raises DiagnosticError for a mistake found on the way."""
    making = Making(place, tokenizer, first=count)
    for _ in making.tokens():
        pass
    if not making.counts.documents and not making.counts.other_part and not making.counts.unanswered:
        making.check()


class Making:
    """The documents of one source on their way to tokens, and the counts of what was kept and left out."""

    def __init__(self, place: Place, tokenizer: Any, *, first: int | None = None) -> None:
        """Start with empty counts. `first`: the number of documents to read; None: all."""
        source, self._first = place.source, first
        self._place, self._tokenizer, self._source = place, tokenizer, source
        self._answers = isinstance(source, nodes.Rows) and source.loss == "answers"
        self._drops = drops_copies(source)
        self._stopped, self._counter = False, Counter[str]()

    @property
    def counts(self) -> TextCounts:
        """Numbers of documents and tokens that were kept and left out so far."""
        name, source = self._place.name, self._source.model_dump_json()
        found: dict[str, Any] = {"copies_dropped": self._drops, "stopped": self._stopped, **self._counter}
        return TextCounts(name=name, source=source, **found)

    def tokens(self) -> Iterator[Sequence[int]]:
        """Yield each document's token ids, `~id` for those that losses do not count; `take` may cut the last document."""
        left = self._source.take
        for document in self._encoded():
            ids, learned = document.ids, document.learned
            if left is not None and len(ids) > left:
                self._counter.update(cut_tokens=len(ids) - left)
                ids, learned = ids[:left], None if learned is None else learned[:left]
            count = len(ids) if learned is None else sum(learned)
            self._counter.update(documents=1, tokens=len(ids), learned_tokens=count)
            if learned is not None:
                ids = [i if kept else ~i for i, kept in zip(ids, learned, strict=True)]
            yield ids
            if left is not None:
                left -= len(ids)
                if left == 0:
                    self._stopped = True
                    return

    def check(self) -> None:
        """Raise DiagnosticError (NoDocuments, AnswersNotFound) for a stream without tokens, or with none to learn."""
        place, counts = self._place, self.counts
        if not counts.tokens and not counts.unanswered:
            reason = "it has no document that is not blank"
            if counts.other_part:
                reason = f"all {counts.other_part} documents are in other parts"
            raise DiagnosticError(NoDocuments(place.span, name=place.name, reason=reason))
        if not counts.learned_tokens:
            reason = "no conversation has an answer of the assistant"
            raise DiagnosticError(AnswersNotFound(place.span, name=place.name, reason=reason))

    def _encoded(self) -> Iterator[TokenDocument]:
        remaining = self._picked(islice(documents_at(self._place), self._first))
        writer = None
        while batch := list(islice(remaining, DOCUMENTS_A_CALL)):
            match batch[0]:
                case Text():
                    texts = [document.text for document in batch if isinstance(document, Text)]
                    tokenizer = self._tokenizer
                    end = tokenizer.eos_token_id
                    for ids in tokenizer(texts, return_attention_mask=False, verbose=False)["input_ids"]:
                        yield TokenDocument(ids if end is None or ids[-1:] == [end] else [*ids, end])
                case Conversation():
                    writer = writer or ChatWriter(self._place, self._tokenizer, answers=self._answers)
                    yield from writer.write([each for each in batch if isinstance(each, Conversation)])

    def _picked(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Yield the documents of the source's part, but no dropped copies, and no conversations that lack answers to learn."""
        seen = set[bytes]()
        for document in documents:
            key = _key(document)
            if not _within(key, self._source.part):
                self._counter.update(other_part=1)
            elif key in seen:
                self._counter.update(duplicates=1)
                if not self._drops:
                    yield document
            elif self._answers and not _answered(document):
                self._counter.update(unanswered=1)
            else:
                seen.add(key)
                yield document


def in_part(document: Document, part: tuple[Fraction, Fraction] | None) -> bool:
    """Return True if a document is in a part of its source, such as (0, 95/100) for `part: 0%..95%`; None is the whole."""
    return _within(_key(document), part)


def drops_copies(source: nodes.Picked) -> bool:
    """Return True if a source drops exact copies of documents; by default, records and questions do, text files do not."""
    usual = "drop" if isinstance(source, nodes.Rows | nodes.TaskData) else "keep"
    return (source.duplicates or usual) == "drop"


def _answered(document: Document) -> bool:
    return isinstance(document, Text) or any(m["role"] == ASSISTANT for m in document.messages)


def _within(key: bytes, part: tuple[Fraction, Fraction] | None) -> bool:
    low, high = (ceil(bound * (1 << DIGEST_BITS)) for bound in part or (0, 1))
    return low <= int.from_bytes(key[: DIGEST_BITS // 8]) < high


def _key(document: Document) -> bytes:
    """Return a digest of a document's content, 16 bytes."""
    match document:
        case Text(text=text):
            content = text.encode("utf-8", "surrogatepass")
        case Conversation(messages=messages):
            content = json.dumps(messages, sort_keys=True, default=str).encode()
    return hashlib.blake2b(content, digest_size=16).digest()


def _write(path: Path, making: Making, progress: Progress) -> None:
    """Write all documents as one .npy array, one by one, so that text need not fit in memory; then the counts.

    Progress is logged every TELL_S seconds. `np.save` is not used: its OSError does not say that the disk is full.
    """
    with path.open("wb") as file:
        _write_header(file, 0)
        start, told = file.tell(), time.monotonic()
        for ids in making.tokens():
            file.write(np.asarray(ids, dtype=np.int32).tobytes())
            if time.monotonic() - told >= TELL_S:
                told, counts = time.monotonic(), making.counts
                known = {"documents": counts.documents, "tokens": counts.tokens}
                said = f"{counts.documents:,} documents, {counts.tokens:,} tokens so far"
                progress.log("reading_text", text=f"data `{counts.name}`: {said}", **known)
        count = (file.tell() - start) // np.dtype(np.int32).itemsize
        making.check()
        file.write(making.counts.model_dump_json().encode())
        file.seek(0)
        _write_header(file, count)
        if file.tell() != start:
            raise RuntimeError("numpy pads its headers so that an array can grow")


def _write_header(file: BinaryIO, count: int) -> None:
    fields = {"descr": "<i4", "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, fields)


def fingerprint(tokenizer: Any) -> str:
    """Return a digest of all that a tokenizer's output depends on: vocabulary, merges, normalisation, special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    special = f"{tokenizer.bos_token_id} {tokenizer.eos_token_id} {type(tokenizer).__name__}"
    return hashlib.sha256(f"{special}\n{rules}".encode()).hexdigest()


def digests_of(data: nodes.Data, base: Path) -> Iterator[bytes]:
    """Yield a digest of each document in its source's part; white space does not count. Raises DiagnosticError."""
    for part, _ in parts_of(data):
        source: Any = part.source
        for document in documents(part, base):
            match document:
                case each if not in_part(each, source.part):
                    pass
                case Text(text=text):
                    yield _text_digest(text)
                case Conversation(messages=messages):
                    yield _text_digest(" ".join(str(message.get("content", "")) for message in messages))


def digests_of_tasks(paths: tuple[str, ...], items: int | None, base: Path) -> Iterator[bytes]:
    """Yield a digest of each question with its choices, of the first `items` of a file (None: all). Raises DiagnosticError."""
    for path in paths:
        for item in read_tasks(base / path, items):
            yield _text_digest(" ".join((*dict.fromkeys(item.contexts), *item.choices)))


def _text_digest(text: str) -> bytes:
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
    """Return `ceil(tokens / context)` blocks of the text in an order that `seed` fixes.

    The whole text is one stream of tokens cut into blocks; a smaller request with the same context and seed is a
    prefix of a larger one. Of a mix, each text is such a stream of its own, and blocks are drawn from them in
    its proportions. `base` is where relative paths start; `cache` is for tokenised text. `progress` logs the counts of
    newly tokenised text. Raises DiagnosticError for missing files and too little text; with `or_fewer`, too little text
    gives as many blocks as it has.
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
    """Return `read(first)`: blocks behind the first `first`. If the text is too short, log `warning` and return `read(0)`."""
    try:
        return read(first)
    except DiagnosticError as error:
        if not first or error.diagnostics[0].kind not in (NotEnoughText, MixTooShort):
            raise
        progress.log("warning", text=warning)
        return read(0)


def _check_enough(
    source: nodes.Data, streams: Sequence[Tokens], order: npt.NDArray[np.uint16], blocks: int, context: int
) -> None:
    """Raise DiagnosticError (NotEnoughText, MixTooShort) if a text has fewer blocks than are drawn from it."""
    available = [len(stream) // context for stream in streams]
    short = [p for p, count in enumerate(available) if count < int((order == p).sum())]
    parts = parts_of(source)
    if not short:
        return
    if not isinstance(source.source, nodes.MixData):
        got, needed = len(streams[0]), blocks * context
        said: Args = {"got": got, "needed": needed, "blocks": blocks, "context": context}
        raise DiagnosticError(NotEnoughText(span_of(source.where), name=source.name, **said))
    most = most_blocks([weight for _, weight in parts], available, blocks) * context
    problems = []
    for p in short:
        drawn: Args = {"part": parts[p][0].name, "needed": int((order == p).sum()) * context, "most": most}
        place = span_of(source.where)
        problems.append(MixTooShort(place, name=source.name, got=len(streams[p]), **drawn))
    raise DiagnosticError(*problems)
