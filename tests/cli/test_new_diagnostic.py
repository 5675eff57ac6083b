"""A new diagnostic touches one file of the package and its golden file; what `pzl` shows of it follows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = "puzzledsl/checker/lints/__init__.py"
LAST_LINT = "    warn_of_few_tokens(ctx, program)\n"
REPORT = """\
    for item in ctx.root.module.items:
        if getattr(item, "kind", None) and item.kind.text == "search" and not program.searches[item.name.text].requirements:
            ctx.report(Unrequired(item.kind.span, "it has no `require`", name=item.name.text))
"""
CLASS = '''

class Unrequired(Diagnostic, code="W0399"):
    """A search without a requirement."""

    template = "search `{name}` requires nothing"
    help_template = "say what the child must achieve: `require …`"
'''
IMPORT = "from puzzledsl.base.diagnostics import Diagnostic\n"
SAID = """\
warning[W0399]: search `s` requires nothing
 --> example.pzl:1:1
  |
1 | search s of w { minimize kl }
  | ^^^^^^ it has no `require`
  = help: say what the child must achieve: `require …`
"""
GOLDEN = f"""\
The parent itself would do.

```pzl wrong
search s of w {{ minimize kl }}
```

```text
{SAID}```

```pzl right
search s of w {{ minimize kl, require params <= 0.9x }}
```
"""


def run(tree: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=tree, env=environment, capture_output=True, text=True
    )
    return done.stdout + done.stderr


def test_a_new_diagnostic_is_one_file_and_its_golden(tmp_path: Path) -> None:
    skip = shutil.ignore_patterns("__pycache__")
    for folder in ("puzzledsl", "grammars", "spaces", "errors", "docs", "tests/cli"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=skip)
    for file in ("pyproject.toml", "tests/__init__.py"):
        shutil.copy(ROOT / file, tmp_path / file)
    source = (tmp_path / FILE).read_text("utf-8")
    patched = (
        source.replace(LAST_LINT, LAST_LINT + REPORT).replace("annotations\n\n", f"annotations\n\n{IMPORT}")
        + CLASS
    )
    (tmp_path / FILE).write_text(patched, "utf-8")
    (tmp_path / "errors" / "W0399.md").write_text(GOLDEN, "utf-8")

    assert "W0399  A search without a requirement." in run(tmp_path, "-m", "puzzledsl.cli.main", "explain")
    explained = run(tmp_path, "-m", "puzzledsl.cli.main", "explain", "399")
    assert explained.startswith("warning[W0399]: search `…` requires nothing\n") and "<= 0.9x" in explained
    page = run(tmp_path, "-m", "puzzledsl.cli.main", "explain", "--markdown")
    assert "### W0399: search `…` requires nothing\n\nA search without a requirement. The parent" in page
    (tmp_path / "docs" / "errors.md").write_text(page, "utf-8")
    tests = run(
        tmp_path, "-m", "pytest", "-q", "tests/cli/test_explain.py", "-k", "W0399 or docs or eight or file"
    )
    assert " passed" in tests and "failed" not in tests and "error" not in tests, tests

    program = tmp_path / "example.pzl"
    text = run(tmp_path, "-c", "from puzzledsl.cli.commands.program.explain import PRELUDE; print(PRELUDE)")
    program.write_text(f"search s of w {{ minimize kl }}\n{text}", "utf-8")
    assert SAID in run(tmp_path, "-m", "puzzledsl.cli.main", "check", "example.pzl")
