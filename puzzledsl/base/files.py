"""Atomic file writes: a reader sees the old content or the new, never a part."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it over `path`, on failure remove it.

    A file that was there keeps its permissions; a new one is 0644.
    """
    make_directory(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(stat.S_IMODE(path.stat().st_mode) if path.is_file() else 0o644)
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


def make_directory(path: Path) -> None:
    """Create a directory and its parents. Raises OSError; EROFS if the file system has no directories, such as /proc."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path)) from error


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


def like(old: bytes, text: str) -> bytes:
    """Return a text as bytes with the byte order mark and the line ends of an existing file's."""
    mark = b"\xef\xbb\xbf" if old.startswith(b"\xef\xbb\xbf") else b""
    lines = old.count(b"\n")
    if lines and old.count(b"\r\n") == lines:
        text = text.replace("\n", "\r\n")
    return mark + text.encode()


def matching(base: Path, pattern: str) -> list[Path]:
    """Return the files that a path or a glob names, relative to `base`."""
    if os.path.isfile(base / pattern):  # `[` and `*` may be a part of its name
        return [base / pattern]
    found = glob.glob(os.path.join(glob.escape(str(base)), pattern), recursive=True)
    return [Path(name) for name in found if os.path.isfile(name)]


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
