"""Sealed files: a reader knows that no bit has changed.

What a stage leaves is vouched for by its stamp. What it keeps for itself (unfinished work, tokenised text) has no stamp, and is
sealed: the SHA-256 of its content at its end, or beside it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from puzzledsl.files import sha256_of, write_bytes, write_text

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
