"""Lowering of `parent`, a checkpoint with a config.json or a literal shape, and of `data`, texts and mixes of them."""

from collections.abc import Iterable
from fractions import Fraction
from functools import partial
from itertools import chain
from math import gcd, lcm
from typing import Any

from puzzledsl.alternatives.shape import LAYER_FIELDS, Shape, StateShape
from puzzledsl.alternatives.weights import USUAL, Computation
from puzzledsl.base.diagnostics import Args, Fix, Label, Span
from puzzledsl.base.phrases import closest, listed
from puzzledsl.base.settings import REQUIRED
from puzzledsl.base.units import COUNT
from puzzledsl.checker import errors
from puzzledsl.checker.context import Context, Refused
from puzzledsl.checker.declarations.common import Declared
from puzzledsl.checker.declarations.stages import MAX_WEIGHT
from puzzledsl.checker.expressions.numbers import as_constant, within
from puzzledsl.checker.expressions.settings import Settings, as_call, from_call, lower, read_call
from puzzledsl.checker.expressions.values import Constructed, RangeValue, Scope, Symbol
from puzzledsl.checker.names.words import read_ref
from puzzledsl.families import registry
from puzzledsl.families.config import BadConfig, checkpoints_beside, config_content
from puzzledsl.families.family import Family
from puzzledsl.ir import nodes
from puzzledsl.language.kinds import DATA_SOURCES, SHAPE
from puzzledsl.syntax import tree


def lower_parent(parent: Declared) -> nodes.Parent:
    """Lower `parent p = hf(…)` or `shape(…)`."""
    call = parent.call()
    if call.name == "shape":
        of_shape: dict[str, Any] = {"shape": read_shape(parent.ctx, call), "computation": USUAL}
        return nodes.Parent(**parent.head(), source=nodes.ShapeSource(), **of_shape)
    settings = parent.arguments(call)
    settings.need_all()
    id, revision = settings.read("id"), settings.read("revision")
    shape, computation = _of_checkpoint(parent.symbol, settings.sound(settings), id, f"`{id}/config.json`")
    source = nodes.HfSource(id=id, revision=revision)
    return nodes.Parent(**parent.head(), source=source, shape=shape, computation=computation)


def _of_checkpoint(symbol: Symbol, settings: Settings, id: str, file: str) -> tuple[Shape, Computation]:
    """Return a checkpoint's shape and computation: the shape as written, checked against config.json, or else read from it."""
    ctx, computation, found = settings.ctx, USUAL, None
    try:
        if content := config_content(symbol.file.path.parent / id / "config.json"):
            found, computation = registry.shape_of_config(content), registry.computation_of_config(content)
    except BadConfig as error:
        raise ctx.refuse(errors.UnsupportedParent(settings.place("id"), file=file, why=str(error))) from None
    if settings.has("shape"):
        call = as_call(ctx, settings.value("shape"), settings.place("shape"), settings.known("shape"))
        said = read_shape(ctx, call)
        if found is not None and (different := mismatch(said, found)) is not None:
            field, mine, other = different
            written = (a.span for a in call.arguments if a.name is not None and a.name.text == field)
            place, help = next(written, settings.place("shape")), None
            place = place if place.file == symbol.file.file else settings.place("shape")
            shown: Args = {"field": field, "said": _literal(mine), "file": file, "found": _literal(other)}
            if other is not None and ctx.source(place).startswith(f"{field}:"):
                shown["fixes"] = [Fix.replace(place, f"{field}: {shown['found']}", safe=False)]
            if other is None or not isinstance(other, int | str) or field not in SHAPE.arguments:
                help = "leave the shape out: it is read from config.json"
            ctx.report(errors.ShapeMismatch(place, help=help, **shown))
        return said, computation
    if found is None:
        near = closest(id, checkpoints_beside(symbol.file.path.parent / id, id))
        help = f'did you mean `hf("{near}")`?' if near else None
        looked = f"there is no {file} beside `{symbol.file.shown}`"
        raise ctx.refuse(errors.ShapeUnknown(settings.place("id"), help=help, id=id, looked=looked))
    return found, computation


def _literal(value: object) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def mismatch(said: Shape, found: Shape) -> tuple[str, object, object] | None:
    """Return the first field, such as `layers[5].window`, in which two shapes differ, with both values; None if none does."""
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
    family = registry.FAMILIES[settings.read("family", "llama")]
    written: dict[str, Any] = {}
    for key in (key for key in settings.table if settings.has(key) and key != "family"):
        by = partial(_state, family=family) if key == "mixer" else None
        written[key] = settings.read(key, 1 if settings.known(key).type is int else REQUIRED, by)
    settings.need(*registry.needed(family, written))
    for key, why in registry.refused(family, written):
        having = [
            f"`{name}`"
            for name, other in registry.FAMILIES.items()
            if other is not family and (key in other.takes or other.literal.get(key) == written[key])
        ]
        help = f"{listed(having)} {'has' if len(having) == 1 else 'have'} it" if having else "leave it out"
        help = "leave it out, or write both alike" if key in family.takes else help
        settings.report(errors.ImpossibleShape(settings.entries[key].span, why=why, help=help))
    if settings.failed:
        raise Refused
    try:
        shape = registry.shape_of_literal(family, written)
    except registry.BadLiteral as error:
        key, why, help = error.argument, str(error), error.help
    else:
        if not (wrong := registry.impossible(shape)):
            return shape
        (key, why), help = wrong, ""
        if key == "kv_heads":
            near = [d for d in range(1, min(shape.heads, 1024) + 1) if shape.heads % d == 0]
            help = "kv_heads can be " + ", ".join(map(str, near))
    place = settings.entries[key].span if settings.has(key) else call.span
    raise ctx.refuse(errors.ImpossibleShape(place, why=why, help=help))


def _state(settings: Settings, family: Family) -> StateShape:
    """Return the sizes of `mixer: mamba2(…)` or `delta_net(…)`. Refuse a mixer that the family does not have."""
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


Shares = dict[str, tuple[nodes.MixPart, Fraction]]
"""Name of a text -> its part of a mix, and its share in what is added up so far."""


def lower_data(data: Declared) -> nodes.Data:
    """Lower `data d = text(…)`, `mix(…)`, or another text."""
    return nodes.Data(**data.head(), source=_called(data.ctx, data.call()))


def _called(ctx: Context, call: Constructed) -> nodes.MixData | nodes.PlainData:
    """Return the source of a call, or of the text that it names: `data e = d`."""
    if call.base is not None:
        return ctx.need(call.base, nodes.Data).source
    if call.name == "mix":  # a text without a weight has 1
        weighted = ctx.all(_weighted, call.arguments, call.scope, {})
        shares = _added(weighted)
        if not call.arguments:
            help = "write `mix(corpus: 2, stories: 1)`"
            raise ctx.missing(call.span, "`mix`", "texts and their weights", help)
        if not any(share for _, share in shares.values()):
            raise ctx.beyond(call.span, "the sum of a mix's weights", "more than 0", "0")
        return nodes.MixData(parts=_whole(shares))
    form = DATA_SOURCES[call.name]
    settings = from_call(ctx, call, form)
    given = {"part": settings.read("part", None, _part)} if "part" in settings.entries else {}
    # `column` does not stand beside `messages`, nor `loss` without it
    key, joined, help = "loss", "without", "name the field of the conversations: `messages: messages`"
    if "messages" in settings.entries:
        key, joined = "column", "with"
        help = "a document is a text in `column` or a conversation in `messages`"
    if "messages" in settings.table and settings.has(key):
        settings.failed = True
        where = f"{settings.thing} {joined} `messages`"
        settings.ctx.misplaced(settings.entries[key].span, f"`{key}`", where, help)
    assert form.node is not None
    source: nodes.PlainData = settings.sound(lower(settings, form.node, **given))  # type: ignore[assignment]
    return source


def _part(settings: Settings) -> tuple[Fraction, Fraction]:
    ctx, value, place = settings.ctx, settings.value("part"), settings.place("part")
    ends = (value.low, value.high) if isinstance(value, RangeValue) else ()
    if not isinstance(value, RangeValue) or any(e.dimension != COUNT or e.form == "times" for e in ends):
        raise ctx.wrong(place, "`part`", "a range of shares", value, "write `part: 0%..95%`")
    if not 0 <= value.low.value < value.high.value <= 1 or value.step is not None:
        raise ctx.beyond(place, "`part`", "a range within 0%..100%", ctx.source(place))
    return value.low.value, value.high.value


def _weighted(
    ctx: Context, argument: tree.Argument, scope: Scope, seen: dict[Symbol, Span]
) -> tuple[nodes.Data, Fraction]:
    data = ctx.attempt(read_ref, ctx, argument.name or argument.value, scope, ("data",))
    weight = Fraction(1)
    if argument.name is not None:
        name, expr = argument.name.text, argument.value
        what = f"the weight of `{name}`"
        help = f"weights are relative: write `{name}: 1`, or 0 to leave the text out"
        found = as_constant(ctx, ctx.value(expr, scope), expr.span, what)
        weight = within(ctx, found, expr.span, what, 0, MAX_WEIGHT, help)
    if data is None:
        raise Refused
    if data in seen:
        label = Label(seen[data], "first set here")
        ctx.report(errors.DuplicateKey(argument.span, name=data.name, secondary=[label]))
    seen[data] = argument.span
    return ctx.need(data, nodes.Data), weight


def _added(weighted: Iterable[tuple[nodes.Data, Fraction]]) -> Shares:
    """Return the texts of a mix, each once, with their shares. A mix inside the mix is replaced by its own texts."""
    shares: Shares = {}
    for data, weight in weighted:
        if isinstance(data.source, nodes.MixData):
            parts = data.source.parts
        else:
            parts = (nodes.MixPart(name=data.name, weight=1, source=data.source),)
        for part in parts:
            before = shares[part.name][1] if part.name in shares else Fraction(0)
            shares[part.name] = part, before + weight * Fraction(part.weight, sum(p.weight for p in parts))
    return shares


def _whole(shares: Shares) -> tuple[nodes.MixPart, ...]:
    """Return the parts whose share is above 0. Their weights are the smallest whole numbers in the shares' proportions."""
    kept = [(part, share) for part, share in shares.values() if share]
    scale = lcm(*(share.denominator for _, share in kept))
    whole = [(part, int(share * scale)) for part, share in kept]
    unit = gcd(*(weight for _, weight in whole))
    return tuple(part.model_copy(update={"weight": weight // unit}) for part, weight in whole)
