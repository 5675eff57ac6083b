"""The code blocks of the documents, and how each kind is held to be true.

```pzl                    a program that checks without a word; `file=NAME` keeps it for later blocks,
                          `with=NAME` puts that one behind it, `same-as=PATH` demands the repository's file
```pzl wrong              one whose diagnostics are, word for word, the ```text block that follows
```console                `$ command` lines with what they print; a line `…` stands for any lines
```console copy=PATH      the same, with a file of the repository beside it
```console skip="REASON"  not run, for one of REASONS
```python                 run; with `same-as=PATH` the repository's file, which is tested where it lies
```json, ```csv           parsed, and kept with `file=NAME`; a `text` block is prose
"""

import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from puzzledsl.base.render import render_all
from puzzledsl.checker.check import check

ROOT = Path(__file__).parents[1]
REASONS = (
    "needs the demo's downloads",
    "needs a GPU",
    "needs a runtime",
    "installs software",
    "runs for minutes",
    "needs your own files",
    "needs an editor",
    "needs a browser",
)
"""Why a block may go unrun."""

EXEMPT = ("errors.md", "CHANGELOG.md")
"""A page made from the code, whose examples are tested where they are written, and one that says what was."""

_FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```[ ]*$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. `flags` are bare words of its info string, `settings` its `key=value`s."""

    document: Path
    line: int
    language: str
    flags: frozenset[str]
    settings: dict[str, str]
    text: str

    @property
    def place(self) -> str:
        """`docs/language.md:12`."""
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def documents() -> list[Path]:
    """Every page whose blocks are checked."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
    return sorted(p for p in pages if p.name not in EXEMPT and "build" not in p.parts)


def blocks(document: Path) -> list[Block]:
    """The blocks of a page in order. Raises ValueError for a fence that is never closed."""
    text = document.read_text("utf-8")
    found = [_block(document, text, match) for match in _FENCE.finditer(text)]
    if len(re.findall(r"^ *```", text, re.MULTILINE)) != 2 * len(found):
        raise ValueError(f"{document}: a code fence is not closed")
    return found


def _block(document: Path, text: str, match: re.Match[str]) -> Block:
    line = text.count("\n", 0, match.start()) + 1
    language, *rest = shlex.split(match.group(2)) or [""]
    settings = dict(word.split("=", 1) for word in rest if "=" in word)
    flags = frozenset(word for word in rest if "=" not in word)
    return Block(document, line, language, flags, settings, match.group(3))


class Runner:
    """Runs the blocks of one page in order, in a folder with what the repository ships beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept: dict[str, str] = {}
        skip = shutil.ignore_patterns("build", "parent", "data", "downloads", "__pycache__")
        for name in ("examples", "spaces"):
            shutil.copytree(ROOT / name, folder / name, ignore=skip)

    def run(self, page: list[Block]) -> Iterator[str]:
        """Mistakes in the blocks, in words."""
        for index, block in enumerate(page):
            after = page[index + 1] if index + 1 < len(page) else None
            for problem in self.problems(block, after):
                yield f"{block.place}: {problem}"

    def problems(self, block: Block, after: Block | None) -> Iterator[str]:
        """Mistake in one block, in words. `after` is the next one of the page."""
        reason = block.settings.get("skip")
        if reason is not None:
            if reason not in REASONS or not block.language:
                yield f"`{reason}` is no reason to skip; there are: {', '.join(REASONS)}"
            return
        match block.language:
            case "pzl":
                yield from self._program(block, after)
            case "console":
                yield from self._console(block)
            case "json":
                json.loads(block.text)
            case "csv":
                rows = list(csv.reader(io.StringIO(block.text), strict=True))
                if "file" in block.settings:
                    (self.folder / block.settings["file"]).write_text(block.text, "utf-8")
                if len({len(row) for row in rows}) != 1:
                    yield "the rows of this table differ in length"
            case "toml":
                tomllib.loads(block.text)
            case "python":
                yield from self._python(block)
            case "text":
                pass
            case other:
                known = "`pzl`, `console`, `json`, `csv`, `toml`, `python` or `text`"
                yield f"a block is {known}, or has a `skip`; this is `{other}`"

    # ------------------------------------------------------------ programs

    def _program(self, block: Block, after: Block | None) -> Iterator[str]:
        unknown = {*block.settings} - {"file", "with", "same-as", "set"} | (block.flags - {"wrong"})
        if unknown:
            yield f"unknown tags: {', '.join(sorted(unknown))}"
        if (
            "same-as" in block.settings
            and (ROOT / block.settings["same-as"]).read_text("utf-8") != block.text
        ):
            yield f"differs from {block.settings['same-as']}"
        text = block.text
        if "with" in block.settings:
            text += "\n" + self.kept[block.settings["with"]]
        name = block.settings.get("file", "example.pzl")
        self.kept[name] = text
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        settings = dict(s.split("=", 1) for s in block.settings.get("set", "").split(",") if s)
        found = check(path, settings)
        said = render_all(found.diagnostics, found.sources, color=False, width=100)
        said = said.replace(f"{self.folder}{os.sep}", "").strip()
        if "wrong" in block.flags:
            if after is None or after.language != "text":
                yield "a ```text block with its diagnostics must follow"
            elif after.text.strip() != said:
                yield f"the checker says instead:\n{said}"
        elif said:
            yield f"this program has mistakes:\n{said}"

    # ------------------------------------------------------------ Python

    def _python(self, block: Block) -> Iterator[str]:
        if path := block.settings.get("same-as"):
            if (ROOT / path).read_text("utf-8") != block.text:
                yield f"differs from {path}"
            return
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-W", "error", "-c", block.text]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=240
        )
        if done.returncode:
            yield f"this code ends with an error:\n{done.stderr}"

    # ------------------------------------------------------------ commands

    def _console(self, block: Block) -> Iterator[str]:
        for path in block.settings.get("copy", "").split():
            shutil.copy(ROOT / path, self.folder)
        for command, expected in sessions(block.text):
            got = self._output(command)
            if not fits(expected, got):
                yield f"`{command}` prints instead:\n{got}"

    def _output(self, command: str) -> str:
        command = re.sub(r"^pzl\b", f"{shlex.quote(sys.executable)} -m puzzledsl.cli.main", command)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
            "COLUMNS": "100",
            "LC_ALL": "C.UTF-8",
        }
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=240,
        )
        return done.stdout.decode("utf-8")


def sessions(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with what it prints. Raises ValueError for output before any command."""
    if not text.startswith("$ "):
        raise ValueError("a console block begins with `$ command`")
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def fits(expected: str, got: str) -> bool:
    """True if the output is the one shown, where a line `…` stands for any lines, and end blanks for nothing."""
    parts = [re.escape(line.rstrip()) + "\n" for line in expected.rstrip().split("\n")]
    pattern = "".join(r"(?:.*\n)*?" if part == re.escape("…") + "\n" else part for part in parts)
    text = "".join(line.rstrip() + "\n" for line in got.rstrip().split("\n"))
    return re.fullmatch(pattern, text) is not None
