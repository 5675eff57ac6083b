"""The command an editor starts: lsp."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def lsp(
    stdio: Annotated[
        bool,
        typer.Option(
            "--stdio",
            help="Use stdin and stdout. This is the default; some editors pass it.",
            show_default=False,
        ),
    ] = False,
) -> None:
    """Serve an editor over stdin and stdout: diagnostics, hover, completion, rename, formatting (docs/editors.md)."""
    from puzzledsl.server.app import run

    if sys.stdin.isatty():
        print(
            "pzl lsp speaks the Language Server Protocol: an editor starts it (docs/editors.md). Ctrl-C ends it.",
            file=sys.stderr,
        )
    raise typer.Exit(run())
