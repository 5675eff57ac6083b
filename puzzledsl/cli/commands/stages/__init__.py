"""Commands of single stages: each resumes where it was interrupted, and skips what is done."""

from __future__ import annotations

import typer

from puzzledsl.cli.commands.stages.bld import bld
from puzzledsl.cli.commands.stages.eval import eval_
from puzzledsl.cli.commands.stages.export import export
from puzzledsl.cli.commands.stages.measure import measure
from puzzledsl.cli.commands.stages.realise import realise
from puzzledsl.cli.commands.stages.refine import refine
from puzzledsl.cli.commands.stages.report import report
from puzzledsl.cli.commands.stages.score import score
from puzzledsl.cli.commands.stages.uptrain import uptrain


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    for command in (measure, bld, score, refine, realise, uptrain, eval_, export, report):
        app.command(command.__name__.rstrip("_"))(command)
