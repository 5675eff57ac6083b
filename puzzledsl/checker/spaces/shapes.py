"""A parent's shape, read from a `shape(…)` literal or from a checkpoint's config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from puzzledsl.alternatives.shape import LAYER_FIELDS, Shape, StateShape
from puzzledsl.base.diagnostics import Span
from puzzledsl.base.phrases import listed
from puzzledsl.base.settings import REQUIRED
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import space_errors as errors
from puzzledsl.checker.expressions.settings import Settings, from_call, read_call
from puzzledsl.checker.expressions.values import Constructed
from puzzledsl.families.family import Family
from puzzledsl.families.literal import BadLiteral, needed, refused, shape_of_literal
from puzzledsl.families.registry import FAMILIES, impossible
from puzzledsl.language.calls import SHAPE

# ---------------------------------------------------------------- literals


def read_shape(ctx: Context, call: Constructed) -> Shape | None:
    """Return the shape of a `shape(…)` call; None, reported, if a field is missing, wrong or impossible."""
    settings = from_call(ctx, call, SHAPE)
    family = FAMILIES[settings.read("family", "llama")]
    written = _written(ctx, settings, family)
    settings.need(*needed(family, written))
    _refuse_others(ctx, settings, family, written)
    if settings.failed:
        return None
    try:
        shape = shape_of_literal(family, written)
    except BadLiteral as error:
        place = settings.entry(error.argument).span if settings.has(error.argument) else call.span
        ctx.report(errors.ImpossibleShape(place, why=str(error), help=error.help))
        return None
    if wrong := impossible(shape):
        key, why = wrong
        span = settings.entry(key).span if settings.has(key) else call.span
        ctx.report(errors.ImpossibleShape(span, why=why, help=_kv_help(shape) if key == "kv_heads" else ""))
        return None
    return shape


def _written(ctx: Context, settings: Settings, family: Family) -> dict[str, Any]:
    """Return the values of the arguments that are written, without the family."""
    found: dict[str, Any] = {}
    for key, known in settings.table.items():
        if not settings.has(key):
            continue
        if key == "mixer":
            found[key] = _state(ctx, settings, family)
        elif key != "family":
            found[key] = settings.read(key, 1 if known.type is int else REQUIRED)
    return found


def _state(ctx: Context, settings: Settings, family: Family) -> StateShape | None:
    """Return the sizes of `mixer: mamba2(…)` or `delta_net(…)`; None, reported, if one is missing or wrong."""
    entry, setting = settings.entry("mixer"), settings.known("mixer")
    call = read_call(ctx, entry.expr, entry.scope, setting)
    settings.failed |= call is None
    if call is None or "mixer" not in family.takes:
        return None
    if call.name != (its := family.literal["mixer"]):
        why = f"a `{family.model_type}` has no `{call.name}` mixers"
        ctx.report(errors.ImpossibleShape(call.span, why=why, help=f"write `{its}(…)`"))
        settings.failed = True
        return None
    sizes = from_call(ctx, call, setting.calls[call.name])
    sizes.need_all()
    wholes = zip(StateShape.model_fields, (sizes.read(name) or 1 for name in sizes.table), strict=True)
    settings.failed |= sizes.failed
    return StateShape(**dict(wholes))


def _refuse_others(ctx: Context, settings: Settings, family: Family, written: Mapping[str, Any]) -> None:
    """Report the arguments that no model of a family can have."""
    for key, why in refused(family, written):
        having = [
            f"`{name}`"
            for name, other in FAMILIES.items()
            if name != family.model_type and (key in other.takes or other.literal.get(key) == written[key])
        ]
        help = f"{listed(having)} {'has' if len(having) == 1 else 'have'} it" if having else "leave it out"
        help = "leave it out, or write both alike" if key in family.takes else help
        ctx.report(errors.ImpossibleShape(settings.entries[key].span, why=why, help=help))
        settings.failed = True


def _kv_help(shape: Shape) -> str:
    near = [d for d in range(1, min(shape.heads, 1024) + 1) if shape.heads % d == 0]
    return "kv_heads can be " + ", ".join(map(str, near))


# ---------------------------------------------------------------- comparison


def mismatch(said: Shape, found: Shape) -> tuple[str, object, object] | None:
    """Return the first field in which two shapes differ, with both values; None if they agree.

    One that differs only in some layers is named with the first of them: `layers[5].window`.
    """
    by_layer = {"by_layer", *(LAYER_FIELDS if said.by_layer or found.by_layer else ())}
    for name in Shape.model_fields:
        mine, other = getattr(said, name), getattr(found, name)
        if mine != other and name not in by_layer:
            return name, mine, other
    for layer, (one, two) in enumerate(zip(said.each, found.each, strict=True)):
        for name in LAYER_FIELDS:
            mine, other = getattr(one, name), getattr(two, name)
            if mine != other:
                return f"layers[{layer}].{name}", mine, other
    return None


def argument_place(settings: Settings, call: Constructed, field: str) -> Span:
    """Return the span of a field of a `shape(…)` call; the whole `shape:` argument if the field is not written there."""
    for argument in call.arguments:
        if argument.name is not None and argument.name.text == field:
            return argument.span
    return settings.place("shape")
