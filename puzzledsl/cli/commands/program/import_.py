"""`pzl import` and `pzl lsp`.

The command an editor starts: lsp.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

import_ = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@import_.callback()
def _group() -> None:
    """Convert the results of another tool to tables and a `.pzl` program."""


PATH_HELP = "The directory of a Puzzletron run (`subblock_stats.json`, a `…--validation` folder)."
OUT_HELP = "Where to write. Default: `imported/`."
PARENT_HELP = "The parent's directory, for its config.json."


@import_.command()
def puzzletron(
    path: Annotated[Path, typer.Argument(metavar="PATH", help=PATH_HELP, show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help=OUT_HELP)] = Path("imported"),
    parent: Annotated[Path | None, typer.Option("--parent", metavar="DIR", help=PARENT_HELP)] = None,
) -> None:
    """Import a run of NVIDIA Model Optimizer's Puzzletron: nothing is scored or measured again.

    Writes scores.csv (one column a metric), costs.csv (memory, KV cache and, where measured, latency at every batch and
    dtype) and puzzletron.pzl, which checks and solves as it stands. It contains the searches of the run with their constraints.
    """
    from puzzledsl.base.files import write_text
    from puzzledsl.importing.puzzletron import read_puzzletron
    from puzzledsl.importing.write import files_of

    imported = read_puzzletron(path, parent)
    for name, text in files_of(imported, Path(os.path.realpath(out))).items():
        write_text(out / name, text)
    replacements = sum(len(layer) - 1 for layer in imported.layers)
    print(
        f"{replacements} replacements of {imported.shape.layers} layers, {len(imported.scores)} metrics, "
        f"{len(imported.measurements)} measurements: wrote {out / 'puzzletron.pzl'}, `pzl solve` it"
    )


STDIO_HELP = "Use stdin and stdout. This is the default; some editors pass it."


def lsp(stdio: Annotated[bool, typer.Option("--stdio", help=STDIO_HELP, show_default=False)] = False) -> None:
    """Serve an editor over stdin and stdout: diagnostics, hover, completion, rename, formatting (docs/editors.md)."""
    from puzzledsl.server.app import run

    if sys.stdin.isatty():
        print(
            "pzl lsp speaks the Language Server Protocol: an editor starts it (docs/editors.md). Ctrl-C ends it.",
            file=sys.stderr,
        )
    raise typer.Exit(run())
