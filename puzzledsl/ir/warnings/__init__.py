"""Lints: legal but probably unintended. They run only on a program without errors."""

from __future__ import annotations

from puzzledsl.ir import nodes
from puzzledsl.ir.context import Context
from puzzledsl.ir.warnings.direction import warn_of_direction
from puzzledsl.ir.warnings.exclusive import warn_of_exclusive
from puzzledsl.ir.warnings.shadowing import warn_of_shadowing
from puzzledsl.ir.warnings.unused import warn_of_unused
from puzzledsl.ir.warnings.vacuous import warn_of_vacuous
from puzzledsl.ir.warnings.windows import warn_of_windows


def warn(ctx: Context, program: nodes.Program) -> None:
    """Report every warning of a program without errors."""
    for warning in ctx.warnings:
        ctx.report(warning)
    for file in ctx.loader.files.values():
        if not file.is_std and not file.module.broken:
            warn_of_shadowing(ctx, file)
    warn_of_unused(ctx, program)
    impossible = warn_of_vacuous(ctx, program)
    warn_of_exclusive(ctx, program, impossible)
    warn_of_direction(ctx, program)
    warn_of_windows(ctx, program)
