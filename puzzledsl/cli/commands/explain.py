"""`pzl explain`, and `pzl lsp`, the command that an editor starts."""

import importlib
import re
import sys
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

import puzzledsl
from puzzledsl.base.diagnostics import Mistake
from puzzledsl.base.phrases import closest
from puzzledsl.base.resources import Explanation, folder

GROUPS = {
    "00": "The shape of the text",
    "01": "Words and literals",
    "02": "Names and structure",
    "03": "Types, units and what a search can express",
    "04": "Parents, spaces and hardware",
    "05": "Solving",
    "06": "Running",
    "07": "Checkpoints and models",
    "10": "Costs and plans",
    "11": "Costs and plans",
    "12": "Text and tasks",
    "13": "The block library",
    "14": "Making pieces",
    "15": "Scoring",
    "16": "Evaluating",
    "17": "Uptraining",
    "18": "Measuring",
}


_DEFINITION = re.compile(r"^\w+ = Mistake\(", re.MULTILINE)


@cache
def all_codes() -> dict[str, Mistake]:
    """Return every diagnostic that has a page in `errors/`, by code and in order of number, without loading heavy libraries.

    A diagnostic is defined in the module that reports it. If that module loads a heavy library, an `errors` module has it.
    """
    root = Path(puzzledsl.__file__).parent
    for path in sorted(root.glob("**/*.py")):
        if _DEFINITION.search(path.read_text("utf-8")):
            importlib.import_module(".".join(("puzzledsl", *path.relative_to(root).with_suffix("").parts)))
    ours = {code: Mistake.registry[code] for code in (path.stem for path in folder("errors").glob("*.md"))}
    return dict(sorted(ours.items(), key=lambda item: (item[0][1:], item[0])))


CODE_HELP = "A code such as E0301. Without it all codes are listed."


def explain(code: Annotated[str | None, typer.Argument(metavar="[CODE]", help=CODE_HELP)] = None) -> None:
    """Explain a diagnostic's code: what it means, a program that has the mistake, and one that is right."""
    codes = all_codes()
    if code is None:
        print(listing([Explanation.of(kind) for kind in codes.values()]), end="")
    else:
        print(Explanation.of(codes[_known(code, list(codes))]).as_text(), end="")


def group_of(explanation: Explanation) -> str:
    """Return the heading under which a code is listed."""
    return GROUPS.get(explanation.code[1:3], "Further stages")


def listing(explanations: list[Explanation]) -> str:
    """Return every code with its summary, under its heading."""
    out: list[str] = []
    for heading, group in groupby(explanations, key=group_of):
        out += ["", heading, *(f"  {each.code}  {each.summary}" for each in group)]
    return "\n".join([*out[1:], "", "`pzl explain CODE` shows an example of each."]) + "\n"


def _known(text: str, codes: list[str]) -> str:
    """Return the code meant by `E0301`, `e301` or `301`. Raises a usage error with a suggestion for any other text."""
    match = re.fullmatch(r"([EeWw]?)(\d{1,4})", text.strip())
    if match:
        letters = match.group(1).upper() or "EW"
        for letter in letters:
            if (found := f"{letter}{match.group(2):0>4}") in codes:
                return found
        text = f"{letters[0]}{match.group(2):0>4}"
        codes = sorted(codes, key=lambda code: abs(int(code[1:]) - int(match.group(2))))
    near = closest(text, codes)
    help = f"did you mean `{near}`?" if near else "`pzl explain` lists them"
    raise typer.BadParameter(f"there is no code `{text}`; {help}", param_hint="CODE")


STDIO_HELP = "Use stdin and stdout. This is the default; some editors pass it."


def lsp(stdio: Annotated[bool, typer.Option("--stdio", help=STDIO_HELP, show_default=False)] = False) -> None:
    """Serve an editor over stdin and stdout: diagnostics, hover, completion, rename, formatting (docs/editors.md)."""
    from puzzledsl.server.app import run

    if sys.stdin.isatty():
        said = "pzl lsp speaks the Language Server Protocol: an editor starts it (docs/editors.md). Ctrl-C ends it."
        print(said, file=sys.stderr)
    raise typer.Exit(run())
