"""Map every library's error about a failed write to one diagnostic that names the file."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.pipeline.errors import CannotList, DiskFull

REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
NO_PLACE = (errno.ENOTDIR, errno.EEXIST, errno.ELOOP)
_RUST = re.compile(r"\(os error (\d+)\)")  # safetensors, tokenizers: their I/O errors are no OSError
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")  # numpy: an OSError without a number


@contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Turn any library's failed write into DiskFull. The message names `root` if the error names no file."""
    try:
        yield
    except DiagnosticError:
        raise
    except Exception as error:
        found = refusal(error)
        if found is None:
            raise
        raise DiagnosticError(problem_of(found, root)) from error


def problem_of(found: tuple[str | None, str], otherwise: object) -> Diagnostic:
    """Return the diagnostic of a `refusal`; `otherwise`: where to, if the error names no file."""
    path, reason = found
    if path is not None and os.path.isdir(path) and not os.access(path, os.R_OK | os.X_OK):
        return CannotList(None, path=path, reason=reason)
    return DiskFull(None, path=path or otherwise, reason=reason)


def refusal(error: BaseException) -> tuple[str | None, str] | None:
    """Return the file (None if unknown) and the operating system's reason of a failed write; None for another error."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (*REFUSALS, *NO_PLACE):
            return (str(seen.filename) if seen.filename else None), os.strerror(seen.errno)
        if isinstance(seen, OSError) and seen.errno is None and _SHORT_WRITE.search(str(seen)):
            return None, os.strerror(errno.ENOSPC)
        if (match := _RUST.search(str(seen))) and int(match[1]) in REFUSALS:
            return None, os.strerror(int(match[1]))
        seen = seen.__cause__ or seen.__context__
    return None
