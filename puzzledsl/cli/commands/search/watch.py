"""`pzl watch FILE`: check and solve the program again whenever a file is saved, and show what changed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated

import typer

from puzzledsl.cli.loading import BuildOption, FileArgument, NamesArgument, SetOption

if TYPE_CHECKING:
    from puzzledsl.base.render import Painter
    from puzzledsl.ir.tables import SearchResult
    from puzzledsl.pipeline.watch import Snapshot
    from puzzledsl.report.subject import Subject

POLL_S, SETTLE_S = 0.15, 0.05
ALTERNATE, NORMAL, CLEAR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[H\x1b[2J"
"""Codes for a terminal: another screen, its usual one again, an empty one."""
Version = tuple[tuple[str, int, int, int], ...]
"""Name, inode, modification time and size of each watched file."""


def watch(
    file: FileArgument,
    searches: NamesArgument = None,
    build: BuildOption = None,
    set_: SetOption = None,
    once: Annotated[bool, typer.Option("--once", help="Check and solve once, then end.")] = False,
) -> None:
    """Check and solve again whenever FILE, or a file it uses, is saved. Ctrl-C ends it.

    Shows the bound and the value of each requirement, the child layer by layer, and the effect of the last change. Reads
    scores and costs from the build directory, and writes nothing there.
    """
    from puzzledsl.cli import loading
    from puzzledsl.cli import loading as output
    from puzzledsl.pipeline.process import interrupts
    from puzzledsl.pipeline.watch import check_and_solve

    output.add_source_root(file.parent)
    settings, where = loading.settings_of(set_), build or file.parent / "build"
    screen, text = sys.stdout.isatty(), ""
    before: Snapshot | None = None
    print(ALTERNATE if screen else "", end="")
    try:
        while True:
            now = check_and_solve(file, settings, where, searches or ())
            seen = version([file, *now.files])
            text = _text(file, now, before)
            shown = "\n".join(text.splitlines()[: get_terminal_size().lines - 1])
            print(CLEAR + shown if screen else text, flush=True)
            before = now if now.context is not None else before
            if once:
                break
            _wait_for_another(seen, [file, *now.files])
            interrupts.check()
    except KeyboardInterrupt:
        pass  # how one stops watching
    finally:
        print(NORMAL + text if screen else "", end="")
    if once and before is None:
        raise typer.Exit(1)


def version(files: Iterable[Path]) -> Version:
    """Return the state of the existing files. It changes if one is saved, in place or by renaming."""
    found = []
    for path in files:
        try:
            status = path.stat()
        except OSError:
            continue
        found.append((str(path), status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)


def _wait_for_another(seen: Version, files: list[Path]) -> None:
    """Wait until the files differ from `seen` and are then stable for a moment: an editor may write in several steps."""
    while True:
        time.sleep(POLL_S)
        now = version(files)
        if now == seen or not any(name == str(files[0]) for name, *_ in now):
            continue
        time.sleep(SETTLE_S)
        if version(files) == now:
            return


def _text(file: Path, now: Snapshot, before: Snapshot | None) -> str:
    from puzzledsl.base.render import render_all
    from puzzledsl.cli import loading as output

    color = output.use_color(sys.stdout)
    times = f"checked in {now.checked_s * 1000:.0f} ms"
    if now.context is not None:
        times += f", solved in {now.solved_s * 1000:.0f} ms"
    parts = [f"{file}  {time.strftime('%H:%M:%S')}  {times}"]
    problems = list(now.diagnostics)
    if problems:
        parts.append(render_all(problems, now.sources, color=color).rstrip())
    if now.context is None:
        parts.append("the last answer stays until the program checks again" if before else "")
        shown, results = before, before.results if before else {}
    else:
        shown, results = now, before.results if before else {}
    for name in shown.results if shown is not None else ():
        assert shown is not None
        previous = None if shown is before else results.get(name)
        parts.append(_answer(shown, name, previous, color=color))
    for name, waits in now.waiting.items():
        sources: Mapping[str, str] = output.sources_for(waits, now.sources)
        parts.append(f"{name}\n" + render_all(waits, sources, color=color).rstrip())
    return "\n\n".join(part for part in parts if part) + "\n"


def _answer(snapshot: Snapshot, name: str, before: SearchResult | None, *, color: bool) -> str:
    """Return one search as text, beside its previous answer."""
    from puzzledsl.base.render import Painter
    from puzzledsl.report.artefacts import Artefacts
    from puzzledsl.report.subject import Subject

    assert snapshot.context is not None
    found = Artefacts(snapshot.context.program, results=dict(snapshot.results), costs=dict(snapshot.costs))
    return "\n".join(_lines(Subject(found, name), snapshot, before, Painter(color)))


def _lines(
    subject: Subject, snapshot: Snapshot, before: SearchResult | None, paint: Painter
) -> Iterator[str]:
    from puzzledsl.base.phrases import layers_in_words
    from puzzledsl.cli.text.answers import layers_as_text
    from puzzledsl.pipeline.text.refined_text import solve_note
    from puzzledsl.pipeline.watch import changed_layers
    from puzzledsl.report.sections.searches import describe

    assert snapshot.context is not None
    result = snapshot.results[subject.name]
    if not result.solutions:
        yield from _no_answer(snapshot, result, paint)
        return
    objective, goal = result.solutions[0].objective, describe(subject.search.objective)
    head = f"{paint(subject.name, 'bold')}  {paint(result.status, 'good')}  {goal} = {objective:.6g}"
    yield head + _moved(objective, before, subject.search.sense, paint)
    if subject.search.refine is not None:
        yield paint(f"  {solve_note(subject.search)}", "faint")
    yield from _requirements(subject, paint)
    yield from layers_as_text(snapshot.context.program, result)
    if changed := changed_layers(before, result):
        yield f"  changed    {layers_in_words(changed)}"
    elif before is not None and before.solutions:
        yield paint("  the same child as before", "faint")


def _moved(objective: float, before: SearchResult | None, sense: str, paint: Painter) -> str:
    if before is None or not before.solutions:
        return ""
    old = before.solutions[0].objective
    if old == objective:
        return ""
    better = (objective < old) == (sense == "minimize")
    share = f", {(objective / old - 1) * 100:+.1f} %" if old else ""
    return paint(f"  (was {old:.6g}{share})", "good" if better else "bad")


def _requirements(subject: Subject, paint: Painter) -> Iterator[str]:
    from puzzledsl.report.sections.requirements import requirement_lines

    lines = requirement_lines(subject, measured=False)
    width = max((len(line.text) for line in lines), default=0)
    for line in lines:
        mark = {"met": paint("✓", "good"), "missed": paint("✗", "bad"), "unsure": "≈", "unknown": "?"}[
            line.mark
        ]
        got = line.predicted.text if line.predicted else ""
        room = f"room {line.room.text}" if line.room else ""
        yield f"  {mark} {line.text.ljust(width)}  {got.rjust(12)}  {paint(room, 'faint')}".rstrip()


def _no_answer(snapshot: Snapshot, result: SearchResult, paint: Painter) -> Iterator[str]:
    from puzzledsl.base.render import render
    from puzzledsl.search.infeasible.verdicts import no_answer

    assert snapshot.context is not None
    problem = no_answer(snapshot.context.program, result)
    yield f"{paint(result.search, 'bold')}  {paint(result.status, 'bad')}"
    if problem is not None:
        from puzzledsl.cli.loading import sources_for

        yield render(problem, sources_for([problem], snapshot.sources), color=paint.color)
