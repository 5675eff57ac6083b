"""A copy of the tree that additions are patched into, and the questions that a test asks its `pzl`, its editor and its docs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COPIED = ("puzzledsl", "grammars", "spaces", "errors", "scripts", "docs", "tests/cli", "tests/server")

ANSWERS = """
import contextlib, io, json, runpy, sys
from pathlib import Path
from puzzledsl.cli.main import run
from puzzledsl.server.completion import complete
from puzzledsl.server.navigation import hover
from tests.server.texts import marked

folder = Path.cwd()

def answer(kind, *asked):
    if kind == "complete":
        return [item.label for item in complete(*marked(asked[0], folder))]
    if kind == "hover":
        return hover(*marked(asked[0], folder)).contents.value
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = run(list(asked))
    return [code, out.getvalue()]

print(json.dumps([answer(*each) for each in json.loads(sys.argv[1])]))
"""


class Tree:
    """The copy. `touched` are the hand-written files that a patch changed or added; `programs` is a folder for programs."""

    def __init__(self, folder: Path) -> None:
        self.root, self.programs, self.touched = folder / "tree", folder / "programs", set[str]()
        self.programs.mkdir()
        for part in COPIED:
            shutil.copytree(ROOT / part, self.root / part)
        for file in ("pyproject.toml", "README.md", "tests/__init__.py"):
            shutil.copy(ROOT / file, self.root / file)

    def insert(self, path: str, before: str, text: str) -> None:
        """Put text in front of the only place where `before` stands in a file."""
        content = (self.root / path).read_text("utf-8")
        assert content.count(before) == 1, f"`{before}` stands {content.count(before)} times in {path}"
        self.write(path, content.replace(before, text + before))

    def write(self, path: str, content: str) -> None:
        """Write a file of the copy."""
        (self.root / path).write_text(content, "utf-8")
        self.touched.add(path)

    def python(self, *arguments: str) -> str:
        """Return what the copy's Python prints; helpers of tests are the repository's."""
        path = os.pathsep.join((str(self.root), str(ROOT)))
        environment = os.environ | {"PYTHONPATH": path, "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        ran = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.programs,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def ask(self, *questions: tuple[str, ...]) -> list[Any]:
        """Answer `("complete", text)`, `("hover", text)` and `("pzl", word, …)`, whose answer is the code and what it prints."""
        answers: list[Any] = json.loads(self.python("-c", ANSWERS, json.dumps(questions)).splitlines()[-1])
        return answers

    def program(self, name: str, text: str) -> str:
        """Write a program and return its name."""
        (self.programs / name).write_text(text, "utf-8")
        return name

    def page(self, path: str) -> str:
        """Return a page of the copy's docs."""
        return (self.root / path).read_text("utf-8")
