"""Read `attention = …` and `ffn = …`: expand choices into alternatives and check them against the parent.

An alternative equal to the parent's own sub-block becomes `parent`. Duplicates are kept once, in the order written.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor, gcd
from typing import TypeVar

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.phrases import listed
from puzzledsl.base.units import COUNT
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import name_errors, space_errors
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.diagnostics.lints import SameAlternative
from puzzledsl.checker.expressions.coercions import as_constant, as_whole
from puzzledsl.checker.expressions.settings import Settings, from_call
from puzzledsl.checker.expressions.values import Constructed, Located, Options, Poison, Scope, Value, describe
from puzzledsl.checker.limits import MAX_OPTIONS
from puzzledsl.checker.spaces.patterns import report_unknown
from puzzledsl.checker.spaces.space_info import SpaceInfo
from puzzledsl.ir.alternatives import (
    Alternative,
    AttentionAlternative,
    FfnAlternative,
    GqaAttention,
    LinearAttention,
    LinearFfn,
    MlpFfn,
    MoeFfn,
    NoOpAttention,
    NoOpFfn,
    ParentAttention,
    ParentFfn,
    SubBlock,
    name_of,
)
from puzzledsl.ir.nodes import Rounding
from puzzledsl.language.alternatives import ALTERNATIVES, GQA, MLP, MOE, NOOP
from puzzledsl.syntax import tree

MAX_EXPERTS = 4096


T = TypeVar("T", bound=Alternative)


@dataclass(slots=True, eq=False)
class ChoiceReader:
    """Reader of one space's choices. It records rounded widths in `info` and sets `info.incomplete` if a part is unreadable."""

    ctx: Context
    info: SpaceInfo

    def attention(self, expr: tree.Expr, scope: Scope) -> tuple[AttentionAlternative, ...]:
        """Return the attention alternatives that an expression denotes."""
        found: dict[AttentionAlternative, None] = {}
        for call in self._calls(expr, scope, "attention"):
            self._add(found, self._attention(call), call)
        return tuple(found)

    def ffn(self, expr: tree.Expr, scope: Scope) -> tuple[FfnAlternative, ...]:
        """Return the FFN alternatives that an expression denotes."""
        found: dict[FfnAlternative, None] = {}
        for call in self._calls(expr, scope, "ffn"):
            self._add(found, self._ffn(call), call)
        return tuple(found)

    def _add(self, found: dict[T, None], more: list[T], call: Constructed) -> None:
        """Add a call's alternatives to a choice; warn about those that the choice already contains."""
        for alternative in more:
            if alternative in found and not call.scope.file.is_std:
                self.ctx.warnings.append(_same(alternative, call, self.info))
            found[alternative] = None

    def alternatives(self, expr: tree.Expr, scope: Scope, sub_block: SubBlock) -> tuple[Alternative, ...]:
        """Return the alternatives that an expression denotes for the given sub-block."""
        return self.attention(expr, scope) if sub_block == "attention" else self.ffn(expr, scope)

    # ------------------------------------------------------------ which words

    def _calls(self, expr: tree.Expr, scope: Scope, sub_block: SubBlock) -> list[Constructed]:
        match expr:
            case tree.Choice(options=options):
                return [call for option in options for call in self._calls(option, scope, sub_block)]
            case tree.Name(text=name) if name in ALTERNATIVES[sub_block]:
                return [Constructed(name, (), scope, expr.span)]
            case tree.Call(function=tree.Name(text=name), arguments=arguments) if (
                name in ALTERNATIVES[sub_block]
            ):
                return [Constructed(name, arguments, scope, expr.span)]
            case tree.Name(text=name) | tree.Call(function=tree.Name(text=name)):
                word = expr if isinstance(expr, tree.Name) else expr.function
                assert isinstance(word, tree.Name)
                if scope.local(name) is None and name not in scope.file.names:
                    return self._guess(word, expr, scope, sub_block)
        return self._from_value(self.ctx.value(expr, scope), expr.span, sub_block)

    def _guess(
        self, word: tree.Name, expr: tree.Name | tree.Call, scope: Scope, sub_block: SubBlock
    ) -> list[Constructed]:
        if scope.file.declares_unread(word.text):
            self.info.incomplete = True
            return []
        near = report_unknown(self.ctx, word, sub_block)
        if near is None:
            self.info.incomplete = True
            return []
        return [Constructed(near, expr.arguments if isinstance(expr, tree.Call) else (), scope, expr.span)]

    def _from_value(self, value: Value, span: Span, sub_block: SubBlock) -> list[Constructed]:
        match value:
            case Poison():
                self.info.incomplete = True
                return []
            case Options(options=options):
                return [call for o in options for call in self._from_value(o.value, o.span, sub_block)]
            case Constructed(name=name, base=None) if name in ALTERNATIVES[sub_block]:
                return [value]
            case Constructed(name=name, base=None) if any(name in names for names in ALTERNATIVES.values()):
                report_unknown(self.ctx, tree.Name(span=span, text=name), sub_block)
            case _:
                listed = ", ".join(f"`{n}`" for n in ALTERNATIVES[sub_block])
                what, wanted = f"`{sub_block}`", f"alternatives ({listed})"
                self.ctx.report(types.WrongType(span, what=what, wanted=wanted, got=describe(value)))
        self.info.incomplete = True
        return []

    # ------------------------------------------------------------ attention

    def _attention(self, call: Constructed) -> list[AttentionAlternative]:
        match call.name:
            case "gqa":
                return self._gqa(call)
            case "linear":
                self._bare(call)
                return [LinearAttention()]
            case "noop":
                self._bare(call)
                return [NoOpAttention()]
            case _:
                self._bare(call)
                return [ParentAttention()]

    def _bare(self, call: Constructed) -> None:
        if call.arguments:
            self._finish(from_call(self.ctx, call, NOOP))

    def _finish(self, settings: Settings) -> bool:
        self.info.incomplete |= settings.failed
        return not settings.failed

    def _gqa(self, call: Constructed) -> list[AttentionAlternative]:
        settings = from_call(self.ctx, call, GQA)
        settings.need("kv_heads", help="write `gqa(kv_heads: 4)`; several are `gqa(kv_heads: 4 | 2)`")
        heads = [self._kv_heads(o) for o in settings.options("kv_heads")] if settings.has("kv_heads") else []
        windows: list[int | None] = self._windows(settings) if settings.has("window") else [None]
        sinks = self._sinks(settings, windows) if settings.has("sinks") else 0
        settings.failed |= None in heads or -1 in windows
        self._finish(settings)
        if not self._affordable(call, len(heads) * len(windows)):
            return []
        return [
            self._same_as_parent(kv, window, sinks if window else 0)
            for kv in heads
            if kv is not None
            for window in windows
            if window != -1
        ]

    def _same_as_parent(self, kv_heads: int, window: int | None, sinks: int) -> AttentionAlternative:
        if kv_heads == self.info.shape.kv_heads and window is None:
            return ParentAttention()
        return GqaAttention(kv_heads=kv_heads, window=window, sinks=sinks)

    def _kv_heads(self, option: Located) -> int | None:
        kv = as_whole(self.ctx, option.value, option.span, "`kv_heads`", 1)
        if kv is None:
            return None
        shape = self.info.shape
        divisors = [
            d for d in range(1, min(shape.kv_heads, 4096) + 1) if gcd(shape.kv_heads, shape.heads) % d == 0
        ]
        for what, heads in (("query", shape.heads), ("key/value", shape.kv_heads)):
            if heads % kv:
                help = "kv_heads can be " + listed(divisors, "or")
                self.ctx.report(
                    name_errors.KvHeadsDontDivide(option.span, got=kv, heads=heads, what=what, help=help)
                )
                return None
        return kv

    def _windows(self, settings: Settings) -> list[int | None]:
        """Return the window sizes in tokens: None for `full`, -1 for an invalid one (already reported)."""
        entry = settings.entry("window")
        options = entry.expr.options if isinstance(entry.expr, tree.Choice) else (entry.expr,)
        found: list[int | None] = []
        for option in options:
            if isinstance(option, tree.Name) and option.text == "full":
                found.append(None)
                continue
            value = self.ctx.value(option, entry.scope)
            located = value.options if isinstance(value, Options) else (Located(value, option.span),)
            for one in located:
                window = as_whole(self.ctx, one.value, one.span, "`window`", 1, 2**40)
                found.append(-1 if window is None else window)
        return found

    def _sinks(self, settings: Settings, windows: list[int | None]) -> int:
        """Return the number of attention sinks: tokens at the start of the sequence that every window keeps.

        Report a number that does not fit the windows, and return 0.
        """
        sinks = settings.whole("sinks", 0, 0)
        span = settings.place("sinks")
        sizes = [w for w in windows if w is not None and w != -1]
        if not sinks or -1 in windows:
            return 0
        if not sizes:
            reason, help = "has no window", f"write `window: 64, sinks: {sinks}`, or leave `sinks` out"
        elif self.info.shape.window is not None:
            reason = f"belongs to a parent that sees {self.info.shape.window:,} tokens at most"
            help = "leave `sinks` out: the parent's own window hides the first tokens"
        elif sinks >= min(sizes):
            reason = f"sees {min(sizes):,} tokens in all, itself among them"
            help = f"`sinks` can be 0 to {min(sizes) - 1:,}" + ("; 4 does well" if min(sizes) > 4 else "")
        else:
            return sinks
        self.ctx.report(name_errors.SinksDontFit(span, sinks=sinks, reason=reason, help=help))
        settings.failed = True
        return 0

    def _affordable(self, call: Constructed, count: int) -> bool:
        if count > MAX_OPTIONS:
            self.ctx.report(
                name_errors.TooMuch(call.span, what="this choice", limit=f"{MAX_OPTIONS} alternatives")
            )
            self.info.incomplete = True
            return False
        return True

    # ------------------------------------------------------------ ffn

    def _ffn(self, call: Constructed) -> list[FfnAlternative]:
        match call.name:
            case "mlp":
                return self._mlp(call)
            case "moe":
                return self._moe(call)
            case "linear":
                self._bare(call)
                return [LinearFfn()]
            case "noop":
                self._bare(call)
                return [NoOpFfn()]
            case _:
                self._bare(call)
                return [ParentFfn()]

    def _mlp(self, call: Constructed) -> list[FfnAlternative]:
        settings = from_call(self.ctx, call, MLP)
        settings.need("width", help="write `mlp(width: 50%)` or `mlp(width: 4096)`")
        multiple = settings.whole("round", 1, 1, 2**24)
        options = settings.options("width") if settings.has("width") else []
        widths = [self._width(o, multiple) for o in options] if not settings.failed else []
        settings.failed |= None in widths
        self._finish(settings)
        return [
            ParentFfn() if width == self.info.shape.intermediate else MlpFfn(width=width)
            for width in widths
            if width is not None
        ]

    def _width(self, option: Located, multiple: int) -> int | None:
        """Return the channels that one width denotes, rounded to the nearest multiple (ties up); None if it is invalid."""
        number = as_constant(self.ctx, option.value, option.span, "`width`", COUNT)
        if number is None:
            return None
        intermediate = self.info.shape.intermediate
        exact = number.value * intermediate if number.form == "percent" else number.value
        rounded = floor(exact / multiple + Fraction(1, 2)) * multiple
        width = int(exact) if exact == intermediate else rounded
        if exact <= 0 or exact > intermediate or width > intermediate or width < 1:
            self._impossible(option, multiple, exact, width)
            return None
        self.info.asked.setdefault(width, set()).add(exact)
        if width != exact:
            where = self.ctx.where(option.span)
            self.info.roundings.append(Rounding(asked=where.text, exact=exact, width=width, where=where))
        return width

    def _impossible(self, option: Located, multiple: int, exact: Fraction, width: int) -> None:
        intermediate, got = self.info.shape.intermediate, self.ctx.source(option.span)
        if exact <= 0:
            why, help = "no width", "write `noop` to leave the FFN out"
        elif exact > intermediate:
            why, help = "wider than the parent's FFN", f"widths go up to 100%, which is {intermediate}"
        elif width < 1:
            why, help = f"0 when rounded to a multiple of {multiple}", f"the least multiple is {multiple}"
        else:
            largest = intermediate // multiple * multiple
            why = f"{width} when rounded to a multiple of {multiple}, wider than the parent's FFN"
            help = f"the largest multiple that fits is {largest}" if largest else "use a smaller `round:`"
        error = space_errors.ImpossibleWidth(
            option.span, got=got, why=why, intermediate=intermediate, help=help
        )
        self.ctx.report(error)

    def _moe(self, call: Constructed) -> list[FfnAlternative]:
        settings = from_call(self.ctx, call, MOE)
        settings.need("experts", "top_k", help="write `moe(experts: 8, top_k: 2)`")
        multiple = settings.whole("round", 1, 1, 2**24)
        if settings.failed:
            self._finish(settings)
            return []
        experts = self._wholes(settings, "experts")
        active = self._wholes(settings, "top_k")
        asked = settings.options("width") if settings.has("width") else None
        widths = [self._width(o, multiple) for o in asked] if asked is not None else None
        settings.failed |= bool(widths) and None in (widths or [])
        self._finish(settings)
        if not self._affordable(call, len(experts) * len(active) * (1 if widths is None else len(widths))):
            return []
        found: list[FfnAlternative] = []
        for count in experts:
            for top_k in active:
                if top_k > count:
                    error = space_errors.ImpossibleExperts(
                        settings.place("top_k"), top_k=top_k, experts=count
                    )
                    self.ctx.report(error)
                    self.info.incomplete = True
                    continue
                own = widths if widths is not None else [max(1, self.info.shape.intermediate // count)]
                found += [MoeFfn(experts=count, top_k=top_k, width=w) for w in own if w is not None]
        return found

    def _wholes(self, settings: Settings, key: str) -> list[int]:
        options = settings.options(key)
        found = [as_whole(self.ctx, o.value, o.span, f"`{key}`", 1, MAX_EXPERTS) for o in options]
        settings.failed |= None in found
        return [f for f in found if f is not None]


def _same(alternative: Alternative, call: Constructed, info: SpaceInfo) -> SameAlternative:
    name, shape = name_of(alternative), info.shape
    if name != "parent" or call.name == "parent":
        help = "keep one of them"
    elif call.name == "gqa":
        help = f"the parent has {shape.kv_heads} key/value heads itself"
    else:
        help = f"the parent's width is {shape.intermediate} itself"
    return SameAlternative(call.span, name=name, help=help)
