"""`data`."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import gcd, lcm

from puzzledsl.base.diagnostics import Label, Span
from puzzledsl.base.units import COUNT
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import (
    arguments_of,
    call_of,
    check_parts,
    declaration,
    no_target,
    where,
)
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.expressions.coercions import as_constant, between
from puzzledsl.checker.expressions.values import Constructed, Scope, Symbol
from puzzledsl.checker.names.words import read_ref
from puzzledsl.ir import nodes
from puzzledsl.syntax import tree

MIX_EXAMPLE = "mix(corpus: 2, stories: 1)"
MAX_WEIGHT = 10**6
Source = nodes.TextData | nodes.JsonlData | nodes.HfData | nodes.MixData


def lower_data(ctx: Context, symbol: Symbol) -> nodes.Data | None:
    """`data d = text(…)`, `jsonl(…)`, `hf(…)` or `mix(…)`."""
    check_parts(ctx, symbol)
    no_target(ctx, symbol)
    decl = declaration(symbol)
    call = call_of(ctx, symbol)
    source = None if call is None else _source(ctx, symbol, call)
    if source is None:
        return None
    return nodes.Data(name=ctx.name_of(symbol), source=source, doc=decl.doc, where=where(ctx, symbol))


def _source(ctx: Context, symbol: Symbol, call: Constructed) -> Source | None:
    if call.name == "mix":
        return _mix(ctx, call)
    settings = arguments_of(ctx, symbol, call)
    settings.need("path" if call.name != "hf" else "id", help=f'write `{call.name}("…")`')
    paths = tuple(settings.text(key) for key in settings.entries if key == "path" or key.isdigit())
    source: Source
    match call.name:
        case "text":
            source = nodes.TextData(paths=paths)
        case "jsonl":
            source = nodes.JsonlData(paths=paths, column=settings.column("column", "text"))
        case _:
            split, column = settings.column("split", "train"), settings.column("column", "text")
            source = nodes.HfData(id=settings.text("id"), split=split, column=column)
    return None if settings.failed else source


# ---------------------------------------------------------------- mixes


def _mix(ctx: Context, call: Constructed) -> nodes.MixData | None:
    """`mix(corpus: 2, stories: 1)`: texts by name, each with its weight; one without a weight has 1."""
    seen: dict[Symbol, Span] = {}
    shares: dict[str, tuple[nodes.MixPart, Fraction]] = {}
    failed = False
    for argument in call.arguments:
        data = read_ref(ctx, argument.name or argument.value, call.scope, ("data",))
        weight = _weight(ctx, argument, call.scope)
        if data is None or weight is None:
            failed = True
            continue
        if data in seen:
            label = Label(seen[data], "first set here")
            ctx.report(name_errors.DuplicateKey(argument.span, name=data.name, secondary=[label]))
        seen[data] = argument.span
        lowered = ctx.lower(data, nodes.Data)
        failed |= lowered is None
        for part, share in () if lowered is None else _parts(lowered):
            before = shares[part.name][1] if part.name in shares else Fraction(0)
            shares[part.name] = part, before + weight * share
    if failed:
        return None
    if not any(share for _, share in shares.values()):
        _report_nothing(ctx, call)
        return None
    return nodes.MixData(parts=_whole(shares))


def _weight(ctx: Context, argument: tree.Argument, scope: Scope) -> Fraction | None:
    if argument.name is None:
        return Fraction(1)
    what, place = f"the weight of `{argument.name.text}`", argument.value.span
    found = as_constant(ctx, ctx.value(argument.value, scope), place, what, COUNT)
    if found is not None and not 0 <= found.value <= MAX_WEIGHT:
        help = f"weights are relative: write `{argument.name.text}: 1`, or 0 to leave the text out"
        condition, got = between(0, MAX_WEIGHT), str(found)
        ctx.report(types.OutOfRange(place, what=what, condition=condition, got=got, help=help))
        return None
    return None if found is None else found.value


def _report_nothing(ctx: Context, call: Constructed) -> None:
    if call.arguments:
        what, condition = "the sum of a mix's weights", "more than 0"
        ctx.report(types.OutOfRange(call.span, what=what, condition=condition, got="0"))
    else:
        help = f"write `{MIX_EXAMPLE}`"
        ctx.report(
            name_errors.MissingPart(call.span, thing="`mix`", what="texts and their weights", help=help)
        )


def _parts(data: nodes.Data) -> Iterator[tuple[nodes.MixPart, Fraction]]:
    """Parts of a mix, with shares that add up to 1: itself, or the parts of a mix."""
    if isinstance(data.source, nodes.MixData):
        total = sum(part.weight for part in data.source.parts)
        yield from ((part, Fraction(part.weight, total)) for part in data.source.parts)
    else:
        yield nodes.MixPart(name=data.name, weight=1, source=data.source), Fraction(1)


def _whole(shares: dict[str, tuple[nodes.MixPart, Fraction]]) -> tuple[nodes.MixPart, ...]:
    """The parts with any share, their weights the smallest whole numbers in these proportions."""
    kept = [(part, share) for part, share in shares.values() if share]
    scale = lcm(*(share.denominator for _, share in kept))
    weights = [int(share * scale) for _, share in kept]
    common = gcd(*weights)
    return tuple(
        part.model_copy(update={"weight": weight // common})
        for (part, _), weight in zip(kept, weights, strict=True)
    )
