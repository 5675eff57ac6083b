"""Atomic files: a reader sees the old content or the new, never a part. Sealed files: a reader knows that no bit has changed.

What a stage leaves is vouched for by its stamp. What it keeps for itself (unfinished work, tokenised text) has no stamp, and is
sealed: the SHA-256 of its content at its end.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it over `path`, on failure remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if error.filename in (
            None,
            name,
        ):  # a write says no name, and the temporary one says nothing to anybody
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def reserve(path: Path, size_bytes: int) -> None:
    """Make `path` this long with room on the disk for all of it, so that writing through a memory map cannot fail.

    A map of a file with holes on a full disk ends the process (SIGBUS). Raises OSError where there is no room.
    """
    with path.open("rb+") as file:
        if hasattr(os, "posix_fallocate") and size_bytes:
            os.posix_fallocate(file.fileno(), 0, size_bytes)
        else:
            zeros = bytes(1 << 20)
            for offset in range(0, size_bytes, len(zeros)):
                file.write(zeros[: size_bytes - offset])
            file.flush()
            os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


SEAL_BYTES = 32


def seal(path: Path) -> None:
    """Append the SHA-256 of a file's content to it. Readers that know how much content there is need not know of it."""
    digest = bytes.fromhex(sha256_of(path))
    with path.open("ab") as file:
        file.write(digest)


def is_sealed(path: Path) -> bool:
    """True for a file that is there and is as it was when it was sealed."""
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
    """Write the SHA-256 of a file into a file beside it: for formats that allow nothing behind their content."""
    write_text(_seal_of(path), sha256_of(path))


def is_sealed_beside(path: Path) -> bool:
    """True for a file that is there and is as it was when `seal_beside` sealed it."""
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
    """What `write_sealed` wrote; None where it is not there or not whole."""
    return path.read_bytes()[:-SEAL_BYTES] if is_sealed(path) else None


def sealed_line(text: str) -> str:
    """One line of a file that is appended to: the text, a tab, its seal."""
    return f"{text}\t{hashlib.sha256(text.encode()).hexdigest()[:16]}\n"


def unsealed_line(line: str) -> str | None:
    """The text of a line; None where it is not as it was written."""
    text = line.rpartition("\t")[0]
    return text if sealed_line(text) == line.rstrip("\n") + "\n" else None
