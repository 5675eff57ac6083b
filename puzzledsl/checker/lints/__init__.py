"""Lints: legal but probably unintended. They run only on a program without errors."""

from __future__ import annotations

from puzzledsl.checker.context import Context
from puzzledsl.checker.lints.names import warn_of_shadowing, warn_of_unused
from puzzledsl.checker.lints.texts import warn_of_few_tokens, warn_of_windows
from puzzledsl.checker.lints.vacuous import warn_of_direction, warn_of_exclusive, warn_of_vacuous
from puzzledsl.ir import nodes


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
    warn_of_few_tokens(ctx, program)
