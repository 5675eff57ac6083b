"""`pzl watch FILE`: check and solve the program again whenever a file is saved, and show what changed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from puzzledsl.cli.loading import BuildOption, FileArgument, NamesArgument, SetOption

if TYPE_CHECKING:
    from puzzledsl.pipeline.watch import Snapshot

POLL_S, SETTLE_S = 0.15, 0.05
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
    from puzzledsl.cli import loading, output
    from puzzledsl.pipeline.process import interrupts
    from puzzledsl.pipeline.watch import check_and_solve

    output.add_source_root(file.parent)
    settings, where = loading.settings_of(set_), build or file.parent / "build"
    screen = Screen()
    before: Snapshot | None = None
    try:
        with screen:
            while True:
                now = check_and_solve(file, settings, where, searches or ())
                seen = version([file, *now.files])
                screen.show(_text(file, now, before))
                before = now if now.context is not None else before
                if once:
                    break
                _wait_for_another(seen, [file, *now.files])
                interrupts.check()
    except KeyboardInterrupt:
        pass  # how one stops watching
    screen.leave_behind()
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


class Screen:
    """Display of results: on a terminal, the alternate screen with one result at a time; else sequential text on stdout."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        self._console = Console()
        self._live = None
        if self._console.is_terminal:
            self._live = Live(Text(""), console=self._console, screen=True, auto_refresh=False)
        self._last = ""

    def __enter__(self) -> Screen:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, text: str) -> None:
        """Show a text, replacing the previous one."""
        from rich.text import Text

        self._last = text
        if self._live is None:
            print(text, flush=True)
        else:
            self._live.update(Text.from_ansi(text), refresh=True)

    def leave_behind(self) -> None:
        """Print the last text to the normal screen, where it stays in the scroll-back."""
        if self._live is not None:
            sys.stdout.write(self._last + "\n")


def _text(file: Path, now: Snapshot, before: Snapshot | None) -> str:
    from puzzledsl.base.render import render_all
    from puzzledsl.cli import output
    from puzzledsl.cli.text import answers_live

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
        parts.append(answers_live.answer(shown, name, previous, color=color))
    for name, waits in now.waiting.items():
        sources: Mapping[str, str] = output.sources_for(waits, now.sources)
        parts.append(f"{name}\n" + render_all(waits, sources, color=color).rstrip())
    return "\n\n".join(part for part in parts if part) + "\n"
