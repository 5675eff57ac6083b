"""`pzl library gc`: clean up the pieces of a build directory. Loads no torch."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Annotated

import typer

from puzzledsl.cli.loading import on_program

if TYPE_CHECKING:
    from puzzledsl.pipeline.context import Context

library = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Clean up the block library.")


@library.command()
@on_program()
def gc(
    ctx: Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; list the files.")] = False,
) -> None:
    """Remove pieces that no job of the program needs, and files that are not pieces."""
    from puzzledsl.base.units import BYTES, format_quantity
    from puzzledsl.pieces.store.index import remove, unneeded
    from puzzledsl.pipeline.inputs import pieces_of
    from puzzledsl.pipeline.process.locks import locked

    with locked(ctx):
        needed = {job.id for name in ctx.program.blds for job in pieces_of(ctx, name)}
        freed = unneeded(ctx.build.library, needed)
        if not dry_run:
            remove(ctx.build.library, freed)
    for piece in freed.pieces:
        job = piece.job
        names = [a.name for a in (job.attention, job.ffn) if a is not None] or [f"head parent@{job.head}"]
        print(f"layer {job.layer}, {job.sub_block} {'/'.join(names)} ({piece.file})")
    for name in freed.strays:
        print(f"{name}: in no index line")
    count = len(freed.pieces) + len(freed.strays)
    files = "1 file" if count == 1 else f"{count} files"
    room = format_quantity(Fraction(freed.size_bytes), BYTES)
    print(f"{'would remove' if dry_run else 'removed'} {files}, {room}")
