"""`pzl library ls | verify | gc`: list, verify and clean up the pieces of a build directory. Loads no torch."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Annotated

import typer

from puzzledsl.cli import loading
from puzzledsl.cli.loading import JsonOption, on_program

if TYPE_CHECKING:
    from pathlib import Path

    from puzzledsl.ir.tables import Piece
    from puzzledsl.pipeline.context import Context

library = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="List, verify and clean up the block library."
)


@library.command()
@on_program()
def ls(ctx: Context, json: JsonOption = False) -> None:
    """List the pieces: layer, alternative, held-out loss before and after training, tokens, size."""
    from puzzledsl.base.phrases import aligned
    from puzzledsl.pieces.store.index import pieces_of, size_of

    root = ctx.build.library
    pieces = pieces_of(root)
    if json:
        loading.print_json([_row(root, piece) for piece in pieces])
        return
    rows = [["layer", "sub-block", "alternative", "loss before", "after", "tokens", "size"]]
    for piece in pieces:
        size, losses = size_of(root, piece), (f"{piece.loss_initial:.4g}", f"{piece.loss_final:.4g}")
        shown = "gone" if size is None else _bytes(size)
        place = str(piece.job.layer), piece.job.sub_block, _alternative(piece)
        rows.append([*place, *losses, f"{piece.tokens:,}", shown])
    print("\n".join(aligned(rows, "><<>>><")))
    total = sum(size_of(root, piece) or 0 for piece in pieces)
    print(f"{len(pieces)} pieces, {_bytes(total)}")


@library.command()
@on_program()
def verify(ctx: Context, json: JsonOption = False) -> None:
    """Read every piece and compare its SHA-256 with the index. Exits with 1 when one is damaged or gone."""
    from puzzledsl.base.diagnostics import DiagnosticError
    from puzzledsl.pieces.errors import PieceDamaged
    from puzzledsl.pieces.store.index import faults, pieces_of

    root = ctx.build.library
    found, count = faults(root), len(pieces_of(root))
    if json:
        loading.print_json({"pieces": count, "faults": [{"file": f.file, "reason": f.reason} for f in found]})
    elif not found:
        print(f"{count} pieces are whole")
    if found:
        raise DiagnosticError(*(PieceDamaged(None, file=root / f.file, reason=f.reason) for f in found))


@library.command()
@on_program()
def gc(
    ctx: Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; list the files.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove pieces that no job of the program needs, and files that are not pieces."""
    from puzzledsl.pieces.store.index import remove, unneeded
    from puzzledsl.pipeline.inputs import pieces_of
    from puzzledsl.pipeline.process.locks import locked

    with locked(ctx):
        needed = {job.id for name in ctx.program.blds for job in pieces_of(ctx, name)}
        freed = unneeded(ctx.build.library, needed)
        if not dry_run:
            remove(ctx.build.library, freed)
    if json:
        rows = [_row(ctx.build.library, piece) for piece in freed.pieces]
        loading.print_json(
            {"removed": rows, "strays": freed.strays, "bytes": freed.size_bytes, "dry_run": dry_run}
        )
        return
    for piece in freed.pieces:
        print(f"layer {piece.job.layer}, {piece.job.sub_block} {_alternative(piece)} ({piece.file})")
    for name in freed.strays:
        print(f"{name}: in no index line")
    count = len(freed.pieces) + len(freed.strays)
    files = "1 file" if count == 1 else f"{count} files"
    print(f"{'would remove' if dry_run else 'removed'} {files}, {_bytes(freed.size_bytes)}")


def _row(root: Path, piece: Piece) -> dict[str, object]:
    from puzzledsl.pieces.store.index import size_of

    of_job = {name: getattr(piece.job, name) for name in ("id", "bld", "layer", "sub_block")}
    own = {name: getattr(piece, name) for name in ("loss_initial", "loss_final", "tokens", "sha256")}
    return {**of_job, "alternative": _alternative(piece), **own, "bytes": size_of(root, piece)}


def _alternative(piece: Piece) -> str:
    parts = [a.name for a in (piece.job.attention, piece.job.ffn) if a is not None]
    return "/".join(parts) or f"head parent@{piece.job.head}"


def _bytes(count: int) -> str:
    from puzzledsl.base.units import BYTES, format_quantity

    return format_quantity(Fraction(count), BYTES)
