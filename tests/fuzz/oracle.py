"""Laws of the answer to any bytes: no exception, no hang, no span outside its file, no program with errors."""

import signal
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from puzzledsl.base.diagnostics import Diagnostic, Span
from puzzledsl.base.render import render_all
from puzzledsl.checker.check import Checked, check
from puzzledsl.syntax.format import format_source

HANG_S = 2.0


class Hang(BaseException):
    """Raised inside a check that takes too long."""


@dataclass(frozen=True)
class Answer:
    """The faults of the answer (empty if there are none), the CPU seconds that it took, and what it says."""

    problems: tuple[str, ...]
    seconds: float
    diagnostics: tuple[Diagnostic, ...]


def answer(data: bytes, path: Path, limit_s: float = HANG_S) -> Answer:
    """Check, render and format `data`, written to `path`; what takes `limit_s` of CPU time hangs."""
    path.write_bytes(data)
    start = time.process_time()
    said: tuple[Diagnostic, ...] = ()
    try:
        with _limited(limit_s):
            found = check(path, {})
            said = tuple(found.diagnostics)
            problems = _problems(data, found)
    except Hang:
        problems = [f"hangs: {_where(traceback.format_exc())}"]
    except Exception:
        problems = [_where(traceback.format_exc())]
    return Answer(tuple(problems), time.process_time() - start, said)


def _problems(data: bytes, found: Checked) -> list[str]:
    unread = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    problems = [p for d in found.diagnostics for p in _outside(d, found.sources, unread)]
    if (found.program is None) != any(d.severity == "error" for d in found.diagnostics):
        problems.append("a program with errors, or neither program nor errors")
    if sum(data) % 4:  # the rest is less likely to go wrong, and takes longer
        return problems
    render_all(found.diagnostics, found.sources, color=False)
    with suppress(UnicodeDecodeError):
        format_source(data.decode("utf-8"))
    return problems


def _outside(diagnostic: Diagnostic, sources: Mapping[str, str], unread: str) -> list[str]:
    spans = [s for s in (diagnostic.span, *(label.span for label in diagnostic.secondary)) if s is not None]
    spans += [edit.span for fix in diagnostic.fixes for edit in fix.edits]
    outside = [s for s in spans if not is_inside(s, sources.get(s.file, unread))]
    return [f"{diagnostic.code} outside its file" for s in outside]


def is_inside(span: Span, text: str) -> bool:
    """Return True if a span lies in its file. The column behind a line's last is the newline's: where something is missing."""
    lines = text.split("\n")
    starts, ends = (span.line, span.column), (span.end_line, span.end_column)
    return (
        starts <= ends
        and 1 <= span.line <= span.end_line <= len(lines)
        and 1 <= span.column <= len(lines[span.line - 1]) + 1
        and 1 <= span.end_column <= len(lines[span.end_line - 1]) + 2
    )


def _where(trace: str) -> str:
    """The end of a traceback on one line: what two inputs with one cause have in common."""
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    places = [line for line in lines if line.startswith("File") and "puzzledsl" in line]
    return f"{lines[-1][:160]} | {places[-1] if places else ''}"


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise Hang in what takes more CPU time than this."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
