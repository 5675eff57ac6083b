"""`parent`."""

from __future__ import annotations

from pathlib import Path

from puzzledsl.alternatives.computation import USUAL, Computation
from puzzledsl.base.diagnostics import Fix
from puzzledsl.base.suggest import closest
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import arguments_of, call_of, check_parts, head, no_target
from puzzledsl.checker.diagnostics import space_errors as errors
from puzzledsl.checker.expressions.settings import Settings, as_call
from puzzledsl.checker.expressions.values import Constructed, Symbol
from puzzledsl.checker.spaces.shapes import argument_place, mismatch, read_shape
from puzzledsl.families.config import BadConfig, config_content, config_path
from puzzledsl.families.registry import computation_of_config, shape_of_config
from puzzledsl.ir import nodes
from puzzledsl.language.calls import SHAPE


def lower_parent(ctx: Context, symbol: Symbol) -> nodes.Parent | None:
    """`parent p = hf(…)` or `shape(…)`."""
    check_parts(ctx, symbol)
    no_target(ctx, symbol)
    call = call_of(ctx, symbol)
    if call is None:
        return None
    source: nodes.HfSource | nodes.ShapeSource
    computation = USUAL
    if call.name == "shape":
        source, shape = nodes.ShapeSource(), read_shape(ctx, call)
    else:
        settings = arguments_of(ctx, symbol, call)
        settings.need_all()
        source = nodes.HfSource(id=settings.read("id"), revision=settings.read("revision"))
        shape, computation = (None, USUAL) if settings.failed else _read(ctx, symbol, settings, source.id)
    if shape is None:
        return None
    return nodes.Parent(**head(ctx, symbol), source=source, shape=shape, computation=computation)


def _read(
    ctx: Context, symbol: Symbol, settings: Settings, id: str
) -> tuple[nodes.Shape | None, Computation]:
    """Return the given shape, verified against config.json if that exists; without a given shape, config.json's own.

    The computation is config.json's, the usual one without it.
    """
    file = f"`{id}/config.json`"
    try:
        content = config_content(config_path(symbol.file.path.parent, id))
        found, computation = (
            (shape_of_config(content), computation_of_config(content)) if content else (None, USUAL)
        )
    except BadConfig as error:
        ctx.report(errors.UnsupportedParent(settings.place("id"), file=file, why=str(error)))
        return None, USUAL
    if not settings.has("shape"):
        if found is None:
            looked = f"there is no {file} beside `{symbol.file.shown}`"
            ctx.report(_unknown(settings, symbol.file.path.parent, id, looked))
        return found, computation
    call = as_call(ctx, settings.value("shape"), settings.place("shape"), settings.known("shape"))
    said = read_shape(ctx, call) if call is not None else None
    if said is not None and found is not None and call is not None:
        _verify(ctx, symbol, settings, call, said, found, file)
    return said, computation


def _unknown(settings: Settings, folder: Path, id: str, looked: str) -> errors.ShapeUnknown:
    """Return the diagnostic of a missing parent. Its help suggests the checkpoint beside it with the nearest name."""
    wanted = folder / id
    try:
        beside = sorted(p.name for p in wanted.parent.iterdir() if (p / "config.json").is_file())
    except (OSError, ValueError):  # no such directory; a name that no file can have
        beside = []
    near = closest(wanted.name, beside)
    if near is None:
        return errors.ShapeUnknown(settings.place("id"), id=id, looked=looked)
    meant = id.rstrip("/").removesuffix(wanted.name) + near
    return errors.ShapeUnknown(
        settings.place("id"), id=id, looked=looked, help=f'did you mean `hf("{meant}")`?'
    )


def _verify(
    ctx: Context,
    symbol: Symbol,
    settings: Settings,
    call: Constructed,
    said: nodes.Shape,
    found: nodes.Shape,
    file: str,
) -> None:
    different = mismatch(said, found)
    if different is None:
        return
    field, mine, other = different
    place = argument_place(settings, call, field)
    if place.file != symbol.file.file:
        place = settings.place("shape")
    right = _literal(other)
    fixes = []
    if other is not None and ctx.source(place).startswith(f"{field}:"):
        fixes = [Fix.replace(place, f"{field}: {right}", safe=False)]
    help = None
    if other is None or not isinstance(other, int | str) or field not in SHAPE.arguments:
        help = "leave the shape out: it is read from config.json"
    error = errors.ShapeMismatch(
        place, field=field, said=_literal(mine), file=file, found=right, fixes=fixes, help=help
    )
    ctx.report(error)


def _literal(value: object) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
