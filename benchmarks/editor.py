"""Latencies of the language server, driven over stdio as an editor does: text typed into a program of 200 lines.

    python -m benchmarks.editor [--quick] [--json editor.json]

Each keystroke is one change of the text. Two times are taken: from the change to the diagnostics of that version, and, in
another pass over the same keystrokes, from the change to the answer to a hover that is asked right behind it. Beside both stands
the server's CPU time for the same keystroke, which other work on the machine does not change. The pause before a check is part of
the time to the diagnostics, not of the CPU time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from puzzledsl.server.app import QUIET_S
from tests.server.stdio import Server

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "nemotron51b.pzl"
VARIANT = """
## Variant {n}: faster by {n}0 %.
search v{n} of wide {{
  minimize kl
  require chat.throughput >= {n}/10 * 1x + 1x because "the service needs it"
  require chat.memory <= h100.memory * {memory}%
  require count(attention is noop) <= {n} + 10
  for i in 3..60 where i mod 4 == 0 {{
    require layers[i].ffn is noop implies layers[i-1].ffn is not noop
  }}
}}
"""
LINES = 200


@dataclass(frozen=True, slots=True)
class Typing:
    """Text that is typed behind a line that begins with `behind`, and removed again."""

    place: str
    behind: str
    text: str


TYPED = (
    Typing("search", "  require count(attention is noop) <= 5 + 10", "\n  require sum(attention.kv_heads) <= 400"),
    Typing("search", "search v9 ", "\n  let slack = 95%  # of the memory"),
    Typing("for", "    require layers[i].ffn is noop", " or layers[i].attention is noop"),
    Typing("new", "", "\nsearch last of wide {\n  maximize params\n}\n"),
    Typing("comment", "## Variant 7", " Asked for by the team."),
    Typing("scenario", "scenario ", "  # as served"),
    Typing("space", "space wide", "\n  layers[10].ffn |= noop"),
    Typing("let", "use ", "\nlet most = 3 * 4"),
)  # fmt: skip


def program() -> str:
    """A program of 200 lines: the example of the paper's child, and searches beside its own."""
    text, number = EXAMPLE.read_text("utf-8"), 0
    while text.count("\n") < LINES:
        number += 1
        text += VARIANT.format(n=number, memory=100 - number)
    return text


@dataclass(frozen=True, slots=True)
class Keystroke:
    """The text after a keystroke, the kind of place, and the cursor's line and column (from 0)."""

    place: str
    text: str
    line: int
    column: int


def keystrokes(text: str) -> Iterator[Keystroke]:
    """Yield every keystroke of typing each text and removing it again."""
    for typing in TYPED:
        at = _end_of(text, typing.behind)
        for length in [*range(1, len(typing.text) + 1), *range(len(typing.text) - 1, -1, -1)]:
            before = text[:at] + typing.text[:length]
            line = before.count("\n")
            yield Keystroke(typing.place, before + text[at:], line, len(before) - before.rfind("\n") - 1)


def _end_of(text: str, behind: str) -> int:
    """Return the end of the line that begins with `behind`; the end of the text for none."""
    if not behind:
        return len(text)
    start = ("\n" + text).index("\n" + behind)
    return text.index("\n", start)


class Session:
    """A server with one open text."""

    def __init__(self, path: Path, text: str) -> None:
        self.server, self.uri, self.version = Server(), path.as_uri(), 1
        self.server.initialize()
        document = {"uri": self.uri, "languageId": "pzl", "version": 1, "text": text}
        self.server.send("textDocument/didOpen", {"textDocument": document})
        self.server.published(1)

    def change(self, text: str) -> None:
        """Send the next version of the text."""
        self.version += 1
        document = {"uri": self.uri, "version": self.version}
        self.server.send(
            "textDocument/didChange", {"textDocument": document, "contentChanges": [{"text": text}]}
        )

    def hover(self, line: int, column: int) -> Any:
        """Ask for the hover of a position."""
        document = {"uri": self.uri}
        return self.server.ask(
            "textDocument/hover",
            {"textDocument": document, "position": {"line": line, "character": column}},
        )

    def end(self) -> None:
        """End the session as the protocol asks."""
        self.server.ask("shutdown")
        self.server.send("exit")
        assert self.server.end()[0] == 0


@dataclass(slots=True)
class Times:
    """Milliseconds of each keystroke: until the answer, and of the server's CPU."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def diagnostics_ms(path: Path, text: str, typed: list[Keystroke]) -> Times:
    """Return the times from a keystroke to its diagnostics."""
    session, found = Session(path, text), Times()
    for keystroke in typed:
        start, cpu = time.perf_counter(), session.server.cpu_s()
        session.change(keystroke.text)
        session.server.published(session.version)
        found.wall.append(1000 * (time.perf_counter() - start))
        found.cpu.append(1000 * (session.server.cpu_s() - cpu))
    session.end()
    return found


def hover_ms(path: Path, text: str, typed: list[Keystroke]) -> Times:
    """Return the times from a keystroke to the answer to a hover over the word before the cursor."""
    session, found = Session(path, text), Times()
    for keystroke in typed:
        start, cpu = time.perf_counter(), session.server.cpu_s()
        session.change(keystroke.text)
        session.hover(keystroke.line, max(keystroke.column - 1, 0))
        found.wall.append(1000 * (time.perf_counter() - start))
        found.cpu.append(1000 * (session.server.cpu_s() - cpu))
        session.server.published(session.version)
    session.end()
    return found


def full_check_ms(path: Path, typed: list[Keystroke]) -> list[float]:
    """Return the CPU milliseconds of the check of some versions without anything from before."""
    from puzzledsl.checker.check import inspect

    found = []
    for keystroke in typed:
        start = time.process_time()
        inspect(path, {}, {os.path.realpath(path): keystroke.text})
        found.append(1000 * (time.process_time() - start))
    return found


def summary(times: list[float]) -> dict[str, float]:
    """Return the median, the 95th percentile and the greatest of some times."""
    ordered = sorted(times)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return {
        "median": round(statistics.median(ordered), 1),
        "p95": round(p95, 1),
        "max": round(ordered[-1], 1),
    }


def measure(quick: bool) -> dict[str, Any]:
    """Return every figure."""
    text = program()
    typed = list(keystrokes(text))[:: 7 if quick else 1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.pzl"
        path.write_text(text, "utf-8")
        told, hovers = diagnostics_ms(path, text, typed), hover_ms(path, text, typed)
        full = full_check_ms(path, typed[::10])
    by_place = {
        place: summary([ms for ms, k in zip(told.cpu, typed, strict=True) if k.place == place])
        for place in sorted({t.place for t in TYPED})
    }
    return {
        "lines": text.count("\n"),
        "keystrokes": len(typed),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "pause_ms": 1000 * QUIET_S,
        "diagnostics": {"ms": summary(told.wall), "cpu_ms": summary(told.cpu), "cpu_ms_by_place": by_place},
        "hover": {"ms": summary(hovers.wall), "cpu_ms": summary(hovers.cpu)},
        "full_check": {"cpu_ms": summary(full)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="every 7th keystroke")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    arguments = parser.parse_args()
    found = measure(arguments.quick)
    text = json.dumps(found, indent=1)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    main()
