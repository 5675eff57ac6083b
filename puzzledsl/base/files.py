"""Atomic file writes, sealed files, and temporary files that a later process removes if their own process was killed.

A reader sees the old content or the new, never a part. A process locks its temporary files and folders (`flock`), and the
operating system releases the locks however the process ends. So an unlocked one is left over. Stamps protect the outputs of a
stage. Its internal files (unfinished work, tokenised text) have no stamps and are sealed: the SHA-256 of their content is at
their end or in a file beside them, which detects any changed bit.
"""

import errno
import fcntl
import glob
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

PREFIX = "pzl-scratch-"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it over `path`, on failure remove it.

    A file that was there keeps its permissions; a new one is 0644.
    """
    make_directory(path.parent)
    with beside(path, folder=False) as temporary:
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(stat.S_IMODE(path.stat().st_mode) if path.is_file() else 0o644)
            temporary.replace(path)
        except OSError as error:
            # a write says no name, and the temporary one says nothing to anybody
            if error.filename in (None, str(temporary)):
                error.filename = str(path)
            raise


def make_directory(path: Path) -> None:
    """Create a directory and its parents. Raises OSError; EROFS where none can be made, such as in /proc."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path)) from error


def reserve(path: Path, size_bytes: int) -> None:
    """Make an existing file `size_bytes` long, with all its disk space allocated. Raises OSError if there is no room.

    Otherwise a write through a memory map of the file would end the process (SIGBUS) when the disk is full.
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
    """Return a text as UTF-8 bytes, with a byte order mark and CRLF line ends if the file content `old` has them."""
    mark = b"\xef\xbb\xbf" if old.startswith(b"\xef\xbb\xbf") else b""
    lines = old.count(b"\n")
    if lines and old.count(b"\r\n") == lines:
        text = text.replace("\n", "\r\n")
    return mark + text.encode()


def matching(base: Path, pattern: str) -> list[Path]:
    """Return the existing files that a path or glob pattern, relative to `base`, names; an empty list if there are none."""
    if os.path.isfile(base / pattern):  # `[` and `*` may be a part of its name
        return [base / pattern]
    found = glob.glob(os.path.join(glob.escape(str(base)), pattern), recursive=True)
    return [Path(name) for name in found if os.path.isfile(name)]


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def scratch(purpose: str) -> Iterator[Path]:
    """Yield a new folder in the system's temporary directory, which is removed afterwards. `purpose`: a part of its name."""
    with _held(Path(tempfile.gettempdir()), f"{PREFIX}{purpose}-", "", folder=True) as folder:
        yield folder


@contextmanager
def beside(path: Path, *, folder: bool) -> Iterator[Path]:
    """Yield a new temporary file or folder beside `path`, `.NAME.*.tmp`; what is still there afterwards is removed.

    The first call in a directory removes what killed processes left in it.
    """
    _swept(path.parent)
    with _held(path.parent, f".{path.name}.", ".tmp", folder=folder) as temporary:
        yield temporary


@contextmanager
def appearing(out_dir: Path) -> Iterator[Path]:
    """Yield an empty directory that takes the place of `out_dir` on success and is removed on failure.

    Its files are synced to the disk first. It must not contain directories.
    """
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with beside(out_dir, folder=True) as temporary:
        new, old = temporary / "new", temporary / "old"
        new.mkdir(0o755)
        yield new
        for path in new.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        if out_dir.exists():
            out_dir.replace(old)
        new.replace(out_dir)


def sweep_scratch() -> None:
    """Remove the folders that killed processes of this user left in the system's temporary directory."""
    with suppress(OSError):
        _remove_left(Path(tempfile.gettempdir()), PREFIX, "")


@cache
def _swept(directory: Path) -> None:
    _remove_left(directory, ".", ".tmp")


def _remove_left(directory: Path, prefix: str, suffix: str) -> None:
    with os.scandir(directory) as entries:
        found = [Path(e) for e in entries if e.name.startswith(prefix) and e.name.endswith(suffix)]
    for path in found:
        with suppress(OSError):  # another user's, or gone
            if path.is_symlink() or path.stat().st_uid != os.getuid() or (handle := _lock(path)) is None:
                continue
            try:
                _remove(path)
            finally:
                os.close(handle)


@contextmanager
def _held(directory: Path, prefix: str, suffix: str, *, folder: bool) -> Iterator[Path]:
    while True:
        if folder:
            path = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=directory))
        else:
            opened, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=directory)
            os.close(opened)
            path = Path(name)
        try:
            if (handle := _lock(path)) is not None:
                break  # else another process took it for a leftover
        except FileNotFoundError:
            continue
        except OSError:  # a file system without locks: nobody can tell leftovers there
            handle = None
            break
    try:
        yield path
    finally:
        _remove(path)
        if handle is not None:
            os.close(handle)


def _lock(path: Path) -> int | None:
    """Lock a file or folder; return the open descriptor that holds the lock, or None if another process does. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return handle


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


SEAL_BYTES = 32


def seal(path: Path) -> None:
    """Append the SHA-256 (32 bytes) of a file's content to it. `is_sealed` checks it."""
    _append(path, bytes.fromhex(sha256_of(path)))


class Sealing:
    """Context manager that seals a file while it is written: a thread hashes each part, so that nothing is read again.

    Leaving the context without an exception appends the checksum to `path`, as `seal` does.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._digest = path, hashlib.sha256()
        self._thread = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def add(self, content: memoryview) -> None:
        """Hash the next part of the content in the background. Its memory must not change any more."""
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
    """Return a line for an append-only file: the text, a tab, the start of its SHA-256 (16 hexadecimal digits)."""
    return f"{text}\t{hashlib.sha256(text.encode()).hexdigest()[:16]}\n"


def unsealed_line(line: str) -> str | None:
    """Return the text of a sealed line; None if the line is damaged."""
    text = line.rpartition("\t")[0]
    return text if sealed_line(text) == line.rstrip("\n") + "\n" else None
