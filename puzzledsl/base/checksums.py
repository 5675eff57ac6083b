"""Sealed files: a SHA-256 checksum detects any changed bit.

Stamps protect the outputs of a stage. Its internal files (unfinished work, tokenised text) have no stamp; they carry
the SHA-256 of their content at their end or in a file beside them.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from puzzledsl.base.files import sha256_of, write_bytes, write_text

SEAL_BYTES = 32


def seal(path: Path) -> None:
    """Append the SHA-256 of a file's content to it. Readers that know the length of the content can ignore the checksum."""
    _append(path, bytes.fromhex(sha256_of(path)))


class Sealing:
    """SHA-256 of a file's content while it is written: each part is hashed in another thread, so nothing is read again.

    Leaving the context without an exception appends the checksum to `path`, as `seal` does.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._digest = path, hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def __enter__(self) -> Sealing:
        return self

    def add(self, content: memoryview) -> None:
        """Count in the next part of the content, which must not change any more."""
        self._last = self._thread.submit(self._digest.update, content)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=kind is not None)
        if kind is None:
            if self._last is not None:
                self._last.result()
            _append(self._path, self._digest.digest())


def _append(path: Path, digest: bytes) -> None:
    with path.open("ab") as file:
        file.write(digest)


def is_sealed(path: Path) -> bool:
    """Return True if a file exists and its content matches the checksum at its end."""
    try:
        left = path.stat().st_size - SEAL_BYTES
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while left > 0 and (chunk := file.read(min(left, 1 << 20))):
                digest.update(chunk)
                left -= len(chunk)
            return left == 0 and file.read() == digest.digest()
    except OSError:
        return False


def seal_beside(path: Path) -> None:
    """Write the SHA-256 of a file to a file beside it, for formats that allow no bytes after their content."""
    write_text(_seal_of(path), sha256_of(path))


def is_sealed_beside(path: Path) -> bool:
    """Return True if a file exists and matches the checksum that `seal_beside` wrote."""
    try:
        return _seal_of(path).read_text("utf-8", "replace") == sha256_of(path)
    except OSError:
        return False


def _seal_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def write_sealed(path: Path, text: str) -> None:
    """Write UTF-8 text and its seal atomically."""
    content = text.encode()
    write_bytes(path, content + hashlib.sha256(content).digest())


def read_sealed(path: Path) -> bytes | None:
    """Read a file written by `write_sealed`; None if it is missing or damaged."""
    return path.read_bytes()[:-SEAL_BYTES] if is_sealed(path) else None


def sealed_line(text: str) -> str:
    """Return one line of an append-only file: the text, a tab, its checksum."""
    return f"{text}\t{hashlib.sha256(text.encode()).hexdigest()[:16]}\n"


def unsealed_line(line: str) -> str | None:
    """Return the text of a sealed line; None if the line is damaged."""
    text = line.rpartition("\t")[0]
    return text if sealed_line(text) == line.rstrip("\n") + "\n" else None
