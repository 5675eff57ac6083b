"""`parent`: a checkpoint, `hf(…)`, whose config.json gives its shape, or a `shape(…)` literal."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import chain
from typing import Any, NoReturn

from puzzledsl.alternatives.computation import USUAL, Computation
from puzzledsl.alternatives.shape import LAYER_FIELDS, Shape, StateShape
from puzzledsl.base.diagnostics import Args, Fix
from puzzledsl.base.phrases import listed
from puzzledsl.base.settings import REQUIRED
from puzzledsl.base.suggest import closest
from puzzledsl.checker import errors
from puzzledsl.checker.context import Context, Refused
from puzzledsl.checker.declarations.common import Declared
from puzzledsl.checker.expressions.settings import Settings, as_call, from_call, read_call
from puzzledsl.checker.expressions.values import Constructed, Symbol
from puzzledsl.families.config import BadConfig, config_content, config_path
from puzzledsl.families.family import Family
from puzzledsl.families.literal import BadLiteral, needed, refused, shape_of_literal
from puzzledsl.families.registry import FAMILIES, computation_of_config, impossible, shape_of_config
from puzzledsl.ir import nodes
from puzzledsl.language.calls import SHAPE


def lower_parent(ctx: Context, symbol: Symbol) -> nodes.Parent:
    """`parent p = hf(…)` or `shape(…)`."""
    parent = Declared(ctx, symbol)
    parent.check_parts()
    call = parent.call()
    if call.name == "shape":
        of_shape: dict[str, Any] = {"shape": read_shape(ctx, call), "computation": USUAL}
        return nodes.Parent(**parent.head(), source=nodes.ShapeSource(), **of_shape)
    settings = parent.arguments(call)
    settings.need_all()
    id, revision = settings.read("id"), settings.read("revision")
    shape, computation = _of_checkpoint(symbol, settings.sound(settings), id, f"`{id}/config.json`")
    source = nodes.HfSource(id=id, revision=revision)
    return nodes.Parent(**parent.head(), source=source, shape=shape, computation=computation)


def _of_checkpoint(symbol: Symbol, settings: Settings, id: str, file: str) -> tuple[Shape, Computation]:
    """Return the given shape, verified against config.json if that exists; without a given shape, config.json's own."""
    ctx, computation, found = settings.ctx, USUAL, None
    try:
        if content := config_content(config_path(symbol.file.path.parent, id)):
            found, computation = shape_of_config(content), computation_of_config(content)
    except BadConfig as error:
        problem = errors.UnsupportedParent(settings.place("id"), file=file, why=str(error))
        raise ctx.refuse(problem) from None
    if settings.has("shape"):
        call = as_call(ctx, settings.value("shape"), settings.place("shape"), settings.known("shape"))
        said = read_shape(ctx, call)
        if found is not None and (different := mismatch(said, found)) is not None:
            _report_mismatch(symbol, settings, file, call, *different)
        return said, computation
    if found is None:
        _refuse_missing(symbol, settings, id, file)
    return found, computation


def _refuse_missing(symbol: Symbol, settings: Settings, id: str, file: str) -> NoReturn:
    """Refuse a parent that is not there. The help suggests the checkpoint beside it with the nearest name."""
    wanted = symbol.file.path.parent / id
    try:
        beside = sorted(p.name for p in wanted.parent.iterdir() if (p / "config.json").is_file())
    except (OSError, ValueError):  # no such directory; a name that no file can have
        beside = []
    near = closest(wanted.name, beside)
    meant = id.rstrip("/").removesuffix(wanted.name) + (near or "")
    help = f'did you mean `hf("{meant}")`?' if near else None
    said: Args = {"id": id, "looked": f"there is no {file} beside `{symbol.file.shown}`"}
    raise settings.ctx.refuse(errors.ShapeUnknown(settings.place("id"), help=help, **said))


def _report_mismatch(
    symbol: Symbol, settings: Settings, file: str, call: Constructed, field: str, mine: object, other: object
) -> None:
    written = (a.span for a in call.arguments if a.name is not None and a.name.text == field)
    place, right, fixes, help = next(written, settings.place("shape")), _literal(other), [], None
    if place.file != symbol.file.file:
        place = settings.place("shape")
    if other is not None and settings.ctx.source(place).startswith(f"{field}:"):
        fixes = [Fix.replace(place, f"{field}: {right}", safe=False)]
    if other is None or not isinstance(other, int | str) or field not in SHAPE.arguments:
        help = "leave the shape out: it is read from config.json"
    said: Args = {"field": field, "said": _literal(mine), "file": file, "found": right}
    settings.ctx.report(errors.ShapeMismatch(place, fixes=fixes, help=help, **said))


def _literal(value: object) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def mismatch(said: Shape, found: Shape) -> tuple[str, object, object] | None:
    """Return the first field in which two shapes differ, with both values; None if they agree.

    One that differs only in some layers is named with the first of them: `layers[5].window`.
    """
    by_layer = {"by_layer", *(LAYER_FIELDS if said.by_layer or found.by_layer else ())}
    whole = [("", said, found, [name for name in Shape.model_fields if name not in by_layer])]
    layers = enumerate(zip(said.each, found.each, strict=True))
    each = ((f"layers[{layer}].", one, two, LAYER_FIELDS) for layer, (one, two) in layers)
    for prefix, one, two, names in chain(whole, each):
        for name in names:
            mine, other = getattr(one, name), getattr(two, name)
            if mine != other:
                return f"{prefix}{name}", mine, other
    return None


def read_shape(ctx: Context, call: Constructed) -> Shape:
    """Return the shape of a `shape(…)` call. One with a field that is missing, wrong or impossible is refused."""
    settings = from_call(ctx, call, SHAPE)
    family = FAMILIES[settings.read("family", "llama")]
    written: dict[str, Any] = {}
    for key in (key for key in settings.table if settings.has(key) and key != "family"):
        by = partial(_state, family=family) if key == "mixer" else None
        written[key] = settings.read(key, 1 if settings.known(key).type is int else REQUIRED, by)
    settings.need(*needed(family, written))
    _report_refused(settings, family, written)
    if settings.failed:
        raise Refused
    try:
        shape = shape_of_literal(family, written)
    except BadLiteral as error:
        key, why, help = error.argument, str(error), error.help
    else:
        if not (wrong := impossible(shape)):
            return shape
        (key, why), help = wrong, ""
        if key == "kv_heads":
            near = [d for d in range(1, min(shape.heads, 1024) + 1) if shape.heads % d == 0]
            help = "kv_heads can be " + ", ".join(map(str, near))
    place = settings.entries[key].span if settings.has(key) else call.span
    raise ctx.refuse(errors.ImpossibleShape(place, why=why, help=help))


def _state(settings: Settings, family: Family) -> StateShape:
    """Return the sizes of `mixer: mamba2(…)` or `delta_net(…)`."""
    entry, setting, ctx = settings.entries["mixer"], settings.known("mixer"), settings.ctx
    call = read_call(ctx, entry.expr, entry.scope, setting)
    if "mixer" not in family.takes:
        raise Refused  # the argument is reported
    if call.name != (its := family.literal["mixer"]):
        why = f"a `{family.model_type}` has no `{call.name}` mixers"
        raise ctx.refuse(errors.ImpossibleShape(call.span, why=why, help=f"write `{its}(…)`"))
    sizes = from_call(ctx, call, setting.calls[call.name])
    sizes.need_all()
    wholes = [sizes.read(name) or 1 for name in sizes.table]
    return sizes.sound(StateShape(**dict(zip(StateShape.model_fields, wholes, strict=True))))


def _report_refused(settings: Settings, family: Family, written: Mapping[str, Any]) -> None:
    """Report the arguments that no model of a family can have."""
    for key, why in refused(family, written):
        having = [
            f"`{name}`"
            for name, other in FAMILIES.items()
            if name != family.model_type and (key in other.takes or other.literal.get(key) == written[key])
        ]
        help = f"{listed(having)} {'has' if len(having) == 1 else 'have'} it" if having else "leave it out"
        help = "leave it out, or write both alike" if key in family.takes else help
        settings.report(errors.ImpossibleShape(settings.entries[key].span, why=why, help=help))
