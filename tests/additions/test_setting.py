"""A setting is added in one file: the field of its declaration's node. Tried on a copy of the tree, by its commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = ("puzzledsl", "grammars", "spaces", "errors", "scripts", "docs")
FIELD = '    context: int = setting("Tokens of a sequence."'
ADDED = """\
    horizon: int = setting(
        "Tokens behind a change that still count.", default=64, at_least=1, at_most=4096, elsewhere=("lookahead",)
    )
"""
HEAD = """\
parent p = shape(family: llama, layers: 2, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, intermediate: 192, vocab: 256)
space w of p { ffn = parent | noop }
data d = text("d.txt")
"""
BLD = "bld b of w {{ tokens = 1k, {} }}\n"
EDITOR = """
import sys
from pathlib import Path
from puzzledsl.server.document import Project
from puzzledsl.server.completion import complete
from puzzledsl.server.hover import hover
from tests.server.texts import marked

folder = Path(sys.argv[1])
head = (folder / "head.pzl").read_text()
print([i.label for i in complete(*marked(head + "bld b of w { ‸ }", folder))])
print(hover(*marked(head + "bld b of w { tokens = 1k, ho‸rizon = 3 }", folder)).contents.value)
"""
DOCS = "from scripts.reference_language import language; print(''.join(language()))"


class Tree:
    """A copy of the tree with a patch, and a folder for programs."""

    def __init__(self, folder: Path) -> None:
        self.root, self.programs = folder / "tree", folder
        for name in COPIED:
            shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
        (self.root / "tests" / "server").mkdir(parents=True)
        for name in ("tests/__init__.py", "tests/server/__init__.py", "tests/server/texts.py"):
            shutil.copy(ROOT / name, self.root / name)
        (folder / "head.pzl").write_text(HEAD, "utf-8")

    def patch(self, path: str, before: str, added: str) -> None:
        """Write `added` above the one line that begins with `before`."""
        file = self.root / path
        text = file.read_text("utf-8")
        assert text.count(before) >= 1, before
        file.write_text(text.replace(before, added + before, 1), "utf-8")

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the copy's Python."""
        environment = {**os.environ, "PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    def pzl(self, command: str, text: str, *arguments: str, name: str = "program.pzl") -> str:
        """Run a command of the copy's `pzl` on a program, and return what it says."""
        path = self.programs / name
        path.write_text(text, "utf-8")
        start = "import sys; from puzzledsl.cli.main import main; sys.exit(main())"
        run = self.python("-c", start, command, str(path), *arguments)
        return run.stdout + run.stderr


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    found = Tree(tmp_path_factory.mktemp("added"))
    found.patch("puzzledsl/ir/stage_nodes.py", FIELD, ADDED)
    return found


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("horizon = 5000", "`horizon` must be 1 to 4096, not 5000"),
        ("horizon = 1.5", "`horizon` must be a whole number, not 1.5"),
        ("horizon = 3GiB", "`horizon` must be a plain number, not Bytes"),
        ("horizn = 3", "did you mean `horizon`?"),
        ("lookahead = 3", "did you mean `horizon`?"),
    ],
)
def test_the_checker_says_what_is_wrong_with_it(written: str, said: str, tree: Tree) -> None:
    assert said in tree.pzl("check", HEAD + BLD.format(written))


def test_it_reaches_the_ir_with_its_default(tree: Tree) -> None:
    text = HEAD + "bld b of w { tokens = 1k }\nbld c of w { tokens = 2k, horizon = 128 }\n"
    out = tree.programs / "build"
    said = tree.pzl("compile", text, "-o", str(out))
    blds = json.loads((out / "ir.json").read_text("utf-8"))["blds"]
    assert (blds["b"]["horizon"], blds["c"]["horizon"]) == (64, 128), said


def test_a_plan_names_it(tree: Tree) -> None:
    new = tree.programs / "new.pzl"
    new.write_text(HEAD + BLD.format("horizon = 9"), "utf-8")
    said = tree.pzl("plan", HEAD + BLD.format("batch = 1"), str(new))
    assert "~ horizon: 64 -> 9" in said, said


def test_editors_offer_and_explain_it(tree: Tree) -> None:
    run = tree.python("-c", EDITOR, str(tree.programs))
    offered, *hover = run.stdout.split("\n")
    assert "'horizon'" in offered, run.stderr
    assert "Tokens behind a change that still count." in "\n".join(hover)


def test_the_reference_has_a_row_for_it(tree: Tree) -> None:
    run = tree.python("-c", DOCS)
    assert "| `horizon` | `64` | Tokens behind a change that still count. |" in run.stdout, run.stderr
