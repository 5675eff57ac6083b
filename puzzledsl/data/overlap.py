"""Documents that two texts, or two files of questions, have in common, compared by what they say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from puzzledsl.data.documents import documents
from puzzledsl.data.mixing import parts_of
from puzzledsl.data.sources.source import Conversation, Text
from puzzledsl.data.tasks import read_tasks
from puzzledsl.ir import nodes


def digests_of(data: nodes.Data, base: Path) -> Iterator[bytes]:
    """Yield a digest of each document, whatever its white space is. Texts that a parent writes have none.

    Raises DiagnosticError for a missing or unreadable file.
    """
    if any(isinstance(part.source, nodes.SampledData) for part, _ in parts_of(data)):
        return
    for document in documents(data, base):
        match document:
            case Text(text=text):
                yield _digest(text)
            case Conversation(messages=messages):
                yield _digest(" ".join(str(message.get("content", "")) for message in messages))
            case _:
                pass


def digests_of_tasks(paths: tuple[str, ...], items: int | None, base: Path) -> Iterator[bytes]:
    """Yield a digest of each question that is read, with its choices. Raises DiagnosticError for a missing or wrong file."""
    for path in paths:
        for item in read_tasks(base / path, items):
            yield _digest(" ".join((*dict.fromkeys(item.contexts), *item.choices)))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(" ".join(text.split()).encode(), digest_size=16).digest()
