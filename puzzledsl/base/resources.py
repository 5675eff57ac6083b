"""Files shipped with the package, among them the explanations of diagnostic codes; and entry points of installed packages.

An installed wheel has the files in `puzzledsl/_data`; an editable install uses the checkout's top-level folders instead. Only
this module depends on that. `errors/CODE.md` explains a code: a sentence, paragraphs, a wrong program, the message about it word
for word, and a right program.

Few installations have entry points for pzl. So entry_points.txt files are searched first, and metadata is parsed only if needed.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from puzzledsl.base.diagnostics import Mistake
from puzzledsl.base.frozen import Record

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


Kind = Literal["docs", "errors", "grammars", "spaces"]

_PACKAGE = Path(__file__).resolve().parents[1]


def folder(kind: Kind) -> Path:
    """Return the folder of one kind of resource. Raises FileNotFoundError if the installation lacks it."""
    for candidate in (_PACKAGE / "_data" / kind, _PACKAGE.parent / kind):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"this installation of puzzledsl has no {kind} folder")


def resource(kind: Kind, name: str) -> Path:
    """Return the path of one shipped file: `resource("spaces", "std/hardware.pzl")`.

    Raises FileNotFoundError if there is no such file, or if `name` leads out of the folder.
    """
    root = folder(kind)
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()) or not path.is_file():
        raise FileNotFoundError(f"no {name!r} among the shipped {kind}")
    return path


def listing(kind: Kind, pattern: str = "**/*.pzl") -> list[str]:
    """Return the sorted names of the shipped files of a kind that match a glob, relative to its folder, with `/`."""
    root = folder(kind)
    return sorted(p.relative_to(root).as_posix() for p in root.glob(pattern) if p.is_file())


def entry_points(group: str) -> list[EntryPoint]:
    """Return the entry points of a group that installed packages declare, sorted by name."""
    if not any(_may_have(folder or os.curdir, group.encode()) for folder in sys.path):
        return []
    from importlib import metadata

    return sorted(metadata.entry_points(group=group), key=lambda entry: entry.name)


def _may_have(folder: str, group: bytes) -> bool:
    """Return False if no package installed in a folder of `sys.path` can have the group; True for a zip file."""
    try:
        names = os.listdir(folder)
    except NotADirectoryError:
        return True
    except OSError:
        return False
    infos = (name for name in names if name.endswith((".dist-info", ".egg-info")))
    return any(group in _read(os.path.join(folder, info, "entry_points.txt")) for info in infos)


def _read(path: str) -> bytes:
    """Return the content of a file; nothing if it cannot be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


_GOLDEN = re.compile(
    r"(?P<text>.*?)\n\n```(\w+) wrong\n(?P<wrong>.*?)\n```\n\n"
    r"```text\n(?P<said>.*?)\n```\n\n```(\w+) right\n(?P<right>.*?)\n```\n",
    re.DOTALL,
)


class Explanation(Record):
    """The explanation of one code. `message`: its template with `…` for values; `said`: the message about the wrong program."""

    code: str
    severity: str
    message: str
    summary: str
    text: tuple[str, ...]
    wrong: str
    said: str
    right: str

    @classmethod
    def of(cls, kind: Mistake) -> Self:
        """Read the golden file of a diagnostic. Raises ValueError for one that has another form."""
        message = re.sub(
            r"\{\{|\}\}", lambda m: m.group()[0], re.sub(r"(?<!\{)\{\w+[^{}]*\}", "…", kind.template)
        )
        found = _GOLDEN.fullmatch(resource("errors", f"{kind.code}.md").read_text("utf-8"))
        if found is None:
            raise ValueError(f"errors/{kind.code}.md is no text, wrong program, message and right program")
        summary, *text = (" ".join(part.split()) for part in found["text"].split("\n\n"))
        programs = found["wrong"], found["said"], found["right"]
        return cls(kind.code, kind.severity, message, summary, tuple(text), *programs)

    def as_text(self) -> str:
        """Return the explanation for a terminal."""
        head = f"{self.severity}[{self.code}]: {self.message}\n\n{self.summary}\n"
        body = "\n\n".join(textwrap.fill(part, 100) for part in self.text)
        return f"{head}\n{body}\n\nWrong:\n\n{_indented(self.wrong)}\n\nRight:\n\n{_indented(self.right)}\n"


def _indented(text: str) -> str:
    """Indent a text as a Markdown code block."""
    return "\n".join(f"    {line}".rstrip() for line in text.split("\n"))
