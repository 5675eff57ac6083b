"""The command an editor starts: lsp."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("lsp")(lsp)


def lsp() -> None:
    """Serve an editor over stdin and stdout: diagnostics, hover, completion, rename, formatting (docs/editors.md)."""
    from puzzledsl.server.app import run

    run()
