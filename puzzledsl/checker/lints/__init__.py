"""Lints: legal but probably unintended. They run only on a program without errors."""

from __future__ import annotations

from puzzledsl.checker.context import Context
from puzzledsl.checker.lints import declarations, vacuous
from puzzledsl.ir import nodes


def warn(ctx: Context, program: nodes.Program) -> None:
    """Report every warning of a program without errors."""
    for warning in ctx.warnings:
        ctx.report(warning)
    for file in ctx.loader.files.values():
        if not file.is_std and not file.module.broken:
            declarations.warn_of_shadowing(ctx, file)
    declarations.warn_of_unused(ctx, program)
    vacuous.warn_of_exclusive(ctx, program, vacuous.warn_of_vacuous(ctx, program))
    vacuous.warn_of_direction(ctx, program)
    declarations.warn_of_windows(ctx, program)
    declarations.warn_of_few_tokens(ctx, program)
