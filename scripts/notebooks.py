"""Run a notebook without Jupyter and keep what its cells show. `python scripts/notebooks.py` does it for examples/.

Cells are run in order in one namespace; the value of a cell's last line is shown as Jupyter would show it.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FORMATS = {"image/svg+xml": "_repr_svg_", "text/html": "_repr_html_"}


def executed(path: Path) -> dict[str, Any]:
    """The notebook with the outputs of a fresh run, in a copy of its folder that nothing was built in."""
    notebook: dict[str, Any] = json.loads(path.read_text("utf-8"))
    names: dict[str, Any] = {}
    with _copy_of(path.parent):
        count = 0
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                count += 1
                cell["execution_count"] = count
                cell["outputs"] = _outputs(_value("".join(cell["source"]), names), count)
    return notebook


def code_lines(notebook: dict[str, Any]) -> list[str]:
    """The lines of code of all cells; empty ones and comments do not count."""
    lines = [line for c in notebook["cells"] if c["cell_type"] == "code" for line in c["source"]]
    return [line for line in lines if line.strip() and not line.strip().startswith("#")]


def text_of(notebook: dict[str, Any]) -> str:
    """A notebook as its file holds it."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


@contextmanager
def _copy_of(folder: Path) -> Iterator[None]:
    skip = shutil.ignore_patterns("build", "parent", "data", "downloads", "out", "__pycache__")
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / folder.name
        shutil.copytree(folder, copy, ignore=skip)
        os.chdir(copy)
        try:
            yield
        finally:
            os.chdir(before)


def _value(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; the value of its last line where that is an expression, else None."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)


def _outputs(value: Any, count: int) -> list[dict[str, Any]]:
    if value is None:
        return []
    shown = {kind: getattr(value, name)() for kind, name in FORMATS.items() if hasattr(value, name)}
    data = {
        kind: text.splitlines(keepends=True) for kind, text in (shown | {"text/plain": repr(value)}).items()
    }
    return [{"data": data, "execution_count": count, "metadata": {}, "output_type": "execute_result"}]


if __name__ == "__main__":
    for notebook in sorted((ROOT / "examples").glob("*.ipynb")):
        notebook.write_text(text_of(executed(notebook)), "utf-8")
