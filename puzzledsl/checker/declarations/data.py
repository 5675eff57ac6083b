"""`data`: texts by `text(…)`, `jsonl(…)`, `parquet(…)`, `hf(…)`, `tasks(…)` and `sampled(…)`, and sums and mixes of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import gcd, lcm
from typing import Any

from puzzledsl.base.diagnostics import Fix, Label, Span
from puzzledsl.base.units import COUNT
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import call_of, check_parts, declaration, head, no_target
from puzzledsl.checker.declarations.results import prompts_file
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.expressions.coercions import as_constant, between
from puzzledsl.checker.expressions.settings import Settings, from_call, lower, read_call
from puzzledsl.checker.expressions.values import Constructed, Poison, RangeValue, Scope, Symbol, describe
from puzzledsl.checker.names.words import read_ref
from puzzledsl.ir import nodes
from puzzledsl.language.calls import DATA_SOURCES
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree

PART_EXAMPLE = "0%..95%"
MIX_EXAMPLE = "mix(corpus: 2, stories: 1)"
MAX_WEIGHT = 10**6
Shares = dict[str, tuple[nodes.MixPart, Fraction]]
"""Parts by name, each with its share so far."""


def lower_data(ctx: Context, symbol: Symbol) -> nodes.Data | None:
    """`data d = text(…)`, `mix(…)`, another text, or a sum `0.7 * text(…) + 0.3 * jsonl(…)`."""
    check_parts(ctx, symbol)
    no_target(ctx, symbol)
    value = declaration(symbol).value
    source: nodes.MixData | nodes.PlainData | None
    if isinstance(value, tree.Binary):
        source = _sum(ctx, value, Scope(symbol.file))
    else:
        call = call_of(ctx, symbol)
        if call is None:
            return None
        if call.base is not None:  # `data e = d`
            other = ctx.lower(call.base, nodes.Data)
            source = None if other is None else other.source
        else:
            source = _mix(ctx, call) if call.name == "mix" else _plain(ctx, call)
    return None if source is None else nodes.Data(**head(ctx, symbol), source=source)


# ---------------------------------------------------------------- one source


def _plain(ctx: Context, call: Constructed) -> nodes.PlainData | None:
    """Return the source that a call names; None, reported, if it has mistakes."""
    form = DATA_SOURCES[call.name]
    settings = from_call(ctx, call, form)
    given: dict[str, Any] = {}
    if settings.has("part"):
        given["part"] = _part(settings)
    if "messages" in settings.table:
        _check_rows(settings)
    if "prompts" in settings.table and settings.has("prompts"):
        given["prompts"] = prompts_file(settings)
        settings.failed |= given["prompts"] is None
    assert form.node is not None
    source: Any = lower(settings, form.node, **given)
    return None if settings.failed else source


def _check_rows(settings: Settings) -> None:
    """Report `column` beside `messages`, and `loss` without it."""
    chats = settings.has("messages")
    key, help = "loss", "name the field of the conversations: `messages: messages`"
    if chats:
        key, help = "column", "a document is a text in `column` or a conversation in `messages`"
    if settings.has(key):
        where = f"{settings.thing} {'with' if chats else 'without'} `messages`"
        place = settings.entry(key).span
        settings.report(name_errors.Misplaced(place, what=f"`{key}`", where=where, help=help))


def _part(settings: Settings) -> tuple[Fraction, Fraction] | None:
    value, place = settings.value("part"), settings.place("part")
    if isinstance(value, Poison):
        return None
    ends = (value.low, value.high) if isinstance(value, RangeValue) else ()
    if not isinstance(value, RangeValue) or any(e.dimension != COUNT or e.form == "times" for e in ends):
        wanted, got, help = "a range of shares", describe(value), f"write `part: {PART_EXAMPLE}`"
        settings.report(types.WrongType(place, what="`part`", wanted=wanted, got=got, help=help))
        return None
    low, high = value.low.value, value.high.value
    if not 0 <= low < high <= 1 or value.step is not None:
        condition, got = "a range within 0%..100%", settings.ctx.source(place)
        settings.report(types.OutOfRange(place, what="`part`", condition=condition, got=got))
        return None
    return low, high


# ---------------------------------------------------------------- mixes: `mix(corpus: 2, stories: 1)`


def _mix(ctx: Context, call: Constructed) -> nodes.MixData | None:
    """`mix(corpus: 2, stories: 1)`: texts by name, each with its weight; one without a weight has 1."""
    if _products(ctx, call):
        return None
    seen: dict[Symbol, Span] = {}
    shares: Shares = {}
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
        if lowered is not None:
            _add(shares, _parts(lowered), weight)
    if failed:
        return None
    if not any(share for _, share in shares.values()):
        _report_nothing(ctx, call)
        return None
    return nodes.MixData(parts=_whole(shares))


def _products(ctx: Context, call: Constructed) -> bool:
    """Report `mix(0.7 * corpus, 0.3 * stories)`, whose weights stand in front of the texts; return False for other mixes."""
    values = [argument.value for argument in call.arguments if argument.name is None]
    if not values or len(values) < len(call.arguments):
        return False
    if not all(isinstance(v, tree.Binary) and v.op == "*" and isinstance(v.right, tree.Name) for v in values):
        return False
    pairs = [(v.right, v.left) for v in values if isinstance(v, tree.Binary)]
    meant = ", ".join(f"{ctx.source(text.span)}: {ctx.source(weight.span)}" for text, weight in pairs)
    where = values[0].span.to(values[-1].span)
    plain = "\n" not in ctx.source(where)
    ctx.report(
        types.WrongType(
            where,
            what="a part of `mix`",
            wanted="a text with its weight behind it",
            got="a product",
            help=f"write `mix({meant})`",
            fixes=[Fix.replace(where, meant)] if plain else [],
        )
    )
    return True


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


# ---------------------------------------------------------------- sums of shares


def _sum(ctx: Context, expr: tree.Expr, scope: Scope) -> nodes.MixData | nodes.PlainData | None:
    """`0.7 * text("a/*.txt") + 0.3 * stories`: shares of the tokens, which add up to 1."""
    shares: Shares = {}
    total = _added(ctx, expr, scope, shares)
    if total is None:
        return None
    if total != 1:
        got = f"{float(total):.6g}"
        help = f"write shares that add up to 1; weights of any sum are those of `{MIX_EXAMPLE}`"
        what = "the sum of the shares"
        ctx.report(types.OutOfRange(expr.span, what=what, condition="1", got=got, help=help))
        return None
    parts = _whole(shares)
    return parts[0].source if len(parts) == 1 else nodes.MixData(parts=parts)


def _added(ctx: Context, expr: tree.Expr, scope: Scope, shares: Shares) -> Fraction | None:
    """Add the terms of a sum to `shares`; return the sum of their shares, None if there is a mistake."""
    total: Fraction | None = Fraction(0)
    for term in _terms(expr):
        share = _term(ctx, term, scope, shares)
        total = None if share is None or total is None else total + share
    return total


def _terms(expr: tree.Expr) -> list[tree.Expr]:
    if isinstance(expr, tree.Binary) and expr.op == "+":
        return [*_terms(expr.left), *_terms(expr.right)]
    return [expr]


def _term(ctx: Context, expr: tree.Expr, scope: Scope, shares: Shares) -> Fraction | None:
    """Add `share * source` to `shares`; return the share, None if it or the source has a mistake, which is reported."""
    if isinstance(expr, tree.BadExpr):
        return None
    if not isinstance(expr, tree.Binary) or expr.op != "*":
        what = "a term of a mix"
        help, got = "shares of texts are added: `0.7 * corpus + 0.3 * stories`", "no share"
        if _is_source(expr, scope):
            help, got = f"write `0.5 * {ctx.source(expr.span)}`", "a whole text"
        ctx.report(types.WrongType(expr.span, what=what, wanted="a share of a text", got=got, help=help))
        return None
    factor, source = expr.left, expr.right
    if _is_source(factor, scope):
        factor, source = source, factor
    share = _share(ctx, factor, scope)
    found = _source(ctx, source, scope)
    if share is None or found is None:
        return None
    _add(shares, found, share)
    return share


def _is_source(expr: tree.Expr, scope: Scope) -> bool:
    """Return True for a call of a source and for the name of a text."""
    if isinstance(expr, tree.Call):
        return isinstance(expr.function, tree.Name) and expr.function.text in (*DATA_SOURCES, "mix")
    return _declared(expr, scope) is not None


def _declared(expr: tree.Expr, scope: Scope) -> Symbol | None:
    symbol = scope.file.names.get(expr.text) if isinstance(expr, tree.Name) else None
    return symbol if isinstance(symbol, Symbol) and symbol.kind == "data" else None


def _share(ctx: Context, expr: tree.Expr, scope: Scope) -> Fraction | None:
    found = as_constant(ctx, ctx.value(expr, scope), expr.span, "a share", COUNT)
    if found is not None and not 0 <= found.value <= 1:
        condition, got = between(0, 1), str(found)
        help = f"write a share such as `0.3` or `30%`; weights are those of `{MIX_EXAMPLE}`"
        ctx.report(types.OutOfRange(expr.span, what="a share", condition=condition, got=got, help=help))
        return None
    return None if found is None else found.value


def _source(ctx: Context, expr: tree.Expr, scope: Scope) -> Iterable[tuple[nodes.MixPart, Fraction]] | None:
    """Return the parts of a term's source: a call, the name of a text, or a sum in brackets."""
    if isinstance(expr, tree.Binary):
        inner: Shares = {}
        total = _added(ctx, expr, scope, inner)
        return None if total is None else [(part, share) for part, share in inner.values()]
    if (named := _declared(expr, scope)) is not None:  # also a text that is called `mix`
        data = ctx.lower(named, nodes.Data)
        return None if data is None else _parts(data)
    takes = KINDS["data"].value
    assert takes is not None
    call = read_call(ctx, expr, scope, takes)
    if call is None:
        return None
    if call.base is not None:
        data = ctx.lower(call.base, nodes.Data)
        return None if data is None else _parts(data)
    if call.name == "mix":
        mix = _mix(ctx, call)
        return None if mix is None else _parts_of_mix(mix)
    source = _plain(ctx, call)
    if source is None:
        return None
    name = " ".join(ctx.source(call.span).split())
    return [(nodes.MixPart(name=name, weight=1, source=source, inline=True), Fraction(1))]


# ---------------------------------------------------------------- parts


def _parts(data: nodes.Data) -> Iterator[tuple[nodes.MixPart, Fraction]]:
    """Parts of a mix, with shares that add up to 1: itself, or the parts of a mix."""
    if isinstance(data.source, nodes.MixData):
        yield from _parts_of_mix(data.source)
    else:
        yield nodes.MixPart(name=data.name, weight=1, source=data.source), Fraction(1)


def _parts_of_mix(mix: nodes.MixData) -> Iterator[tuple[nodes.MixPart, Fraction]]:
    total = sum(part.weight for part in mix.parts)
    yield from ((part, Fraction(part.weight, total)) for part in mix.parts)


def _add(shares: Shares, parts: Iterable[tuple[nodes.MixPart, Fraction]], weight: Fraction) -> None:
    """Add parts, times a weight, to those that are there; the same part is there once."""
    for part, share in parts:
        before = shares[part.name][1] if part.name in shares else Fraction(0)
        shares[part.name] = part, before + weight * share


def _whole(shares: Shares) -> tuple[nodes.MixPart, ...]:
    """The parts with any share, their weights the smallest whole numbers in these proportions."""
    kept = [(part, share) for part, share in shares.values() if share]
    scale = lcm(*(share.denominator for _, share in kept))
    weights = [int(share * scale) for _, share in kept]
    common = gcd(*weights)
    return tuple(
        part.model_copy(update={"weight": weight // common})
        for (part, _), weight in zip(kept, weights, strict=True)
    )
