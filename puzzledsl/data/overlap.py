"""Documents that two texts, or two files of questions, have in common, compared by what they say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from puzzledsl.data.documents import documents
from puzzledsl.data.mixing import parts_of
from puzzledsl.data.sources.source import Conversation, Document, Text
from puzzledsl.data.streams import in_part
from puzzledsl.data.tasks import read_tasks
from puzzledsl.ir import nodes


def digests_of(data: nodes.Data, base: Path) -> Iterator[bytes]:
    """Yield a digest of each document, whatever its white space is. Texts that a parent writes have none.

    Raises DiagnosticError for a missing or unreadable file.
    """
    for document in _read(data, base):
        match document:
            case Text(text=text):
                yield _digest(text)
            case Conversation(messages=messages):
                yield _digest(" ".join(str(message.get("content", "")) for message in messages))
            case _:
                pass


def _read(data: nodes.Data, base: Path) -> Iterator[Document]:
    """Yield the documents of a text's parts, as `part: 0%..95%` means them."""
    for part, _ in parts_of(data):
        source = part.source
        if not isinstance(source, nodes.SampledData | nodes.MixData):
            yield from (each for each in documents(part, base) if in_part(each, source.part))


def digests_of_tasks(paths: tuple[str, ...], items: int | None, base: Path) -> Iterator[bytes]:
    """Yield a digest of each question that is read, with its choices. Raises DiagnosticError for a missing or wrong file."""
    for path in paths:
        for item in read_tasks(base / path, items):
            yield _digest(" ".join((*dict.fromkeys(item.contexts), *item.choices)))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(" ".join(text.split()).encode(), digest_size=16).digest()
