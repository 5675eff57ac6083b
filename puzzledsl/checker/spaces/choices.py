"""Read `attention = …` and `ffn = …`: expand choices into alternatives and check them against the parent.

An alternative equal to the parent's own sub-block becomes `parent`. Duplicates are kept once, in the order written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor

from puzzledsl.alternatives.alternative import Alternative, Attention, Ffn, SubBlock
from puzzledsl.alternatives.arguments import Arguments
from puzzledsl.alternatives.registry import KINDS, AttentionAlternative, FfnAlternative
from puzzledsl.base.diagnostics import Diagnostic, Span
from puzzledsl.base.units import COUNT
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import name_errors, space_errors
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.diagnostics.lints import SameAlternative
from puzzledsl.checker.expressions.coercions import as_constant, as_whole
from puzzledsl.checker.expressions.settings import Settings, from_call
from puzzledsl.checker.expressions.values import Constructed, Located, Options, Poison, Scope, Value, describe
from puzzledsl.checker.limits import MAX_COUNT, MAX_OPTIONS
from puzzledsl.checker.spaces.patterns import report_unknown
from puzzledsl.checker.spaces.space_info import SpaceInfo
from puzzledsl.ir.nodes import Rounding
from puzzledsl.language.alternatives import ALTERNATIVES
from puzzledsl.syntax import tree


@dataclass(slots=True, eq=False)
class ChoiceReader:
    """Reader of one space's choices. It records rounded widths in `info` and sets `info.incomplete` if a part is unreadable."""

    ctx: Context
    info: SpaceInfo

    def attention(self, expr: tree.Expr, scope: Scope) -> tuple[AttentionAlternative, ...]:
        """Return the attention alternatives that an expression denotes."""
        return tuple(a for a in self.alternatives(expr, scope, "attention") if isinstance(a, Attention))

    def ffn(self, expr: tree.Expr, scope: Scope) -> tuple[FfnAlternative, ...]:
        """Return the FFN alternatives that an expression denotes."""
        return tuple(f for f in self.alternatives(expr, scope, "ffn") if isinstance(f, Ffn))

    def alternatives(self, expr: tree.Expr, scope: Scope, sub_block: SubBlock) -> tuple[Alternative, ...]:
        """Return the alternatives that an expression denotes for the given sub-block."""
        found: dict[Alternative, None] = {}
        for call in self._calls(expr, scope, sub_block):
            for alternative in self._read(call, KINDS[sub_block][call.name]):
                if alternative in found and not call.scope.file.is_std:
                    self.ctx.warnings.append(_same(alternative, call, self.info))
                found[alternative] = None
        return tuple(found)

    def _read(self, call: Constructed, kind: type[Alternative]) -> Sequence[Alternative]:
        """Return the alternatives of one call."""
        settings = from_call(self.ctx, call, ALTERNATIVES[kind.sub_block][call.name])
        arguments = CallArguments(self.ctx, self.info, settings)
        found = kind.read(arguments)
        self.info.incomplete |= arguments.failed
        return found

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


class CallArguments(Arguments):
    """The arguments of one call, read by the rules of the language. Rounded widths are recorded in `info`."""

    def __init__(self, ctx: Context, info: SpaceInfo, settings: Settings) -> None:
        self.ctx, self.info, self.shape, self.settings = ctx, info, info.shape, settings
        self._invalid: set[str] = set()

    @property
    def failed(self) -> bool:
        """True once a mistake was found."""
        return self.settings.failed or bool(self._invalid)

    def need(self, *keys: str, help: str) -> None:
        """Report those of `keys` that are missing."""
        self.settings.need(*keys, help=help)

    def has(self, key: str) -> bool:
        """Return True if the argument is written."""
        return self.settings.has(key)

    def place(self, key: str) -> Span:
        """Return the span of an argument's value; the span of the call if it is missing."""
        return self.settings.place(key)

    def is_valid(self, key: str) -> bool:
        """Return False once a mistake was found in this argument."""
        return key not in self._invalid

    def whole(self, key: str, default: int, low: int = 0, high: int = MAX_COUNT) -> int:
        """Return a whole number within bounds."""
        return self.settings.whole(key, default, low, high)

    def wholes(
        self,
        key: str,
        low: int = 1,
        high: int | None = None,
        check: Callable[[int, Span], Diagnostic | None] = lambda number, span: None,
    ) -> list[int]:
        """Return the whole numbers of `a | b` within bounds that `check` does not refuse; empty if there are none."""
        options = self.settings.options(key) if self.settings.has(key) else []
        found = [self._whole(key, option, low, high, check) for option in options]
        return [number for number in found if number is not None]

    def wholes_or(self, key: str, word: str, low: int = 1, high: int | None = None) -> list[int | None]:
        """Return whole numbers like `wholes`; None stands for `word`."""
        entry = self.settings.entry(key)
        found: list[int | None] = []
        for expr in entry.expr.options if isinstance(entry.expr, tree.Choice) else (entry.expr,):
            if isinstance(expr, tree.Name) and expr.text == word:
                found.append(None)
                continue
            value = self.ctx.value(expr, entry.scope)
            options = value.options if isinstance(value, Options) else (Located(value, expr.span),)
            numbers = [self._whole(key, option, low, high) for option in options]
            found += [number for number in numbers if number is not None]
        return found

    def _whole(
        self,
        key: str,
        option: Located,
        low: int,
        high: int | None,
        check: Callable[[int, Span], Diagnostic | None] = lambda number, span: None,
    ) -> int | None:
        number = as_whole(self.ctx, option.value, option.span, f"`{key}`", low, high)
        problem = None if number is None else check(number, option.span)
        if problem is not None:
            self.ctx.report(problem)
        if number is None or problem is not None:
            self._invalid.add(key)
            return None
        return number

    def refuse(self, key: str, problem: Diagnostic) -> None:
        """Report a mistake in an argument."""
        self.ctx.report(problem)
        self._invalid.add(key)

    def affords(self, count: int) -> bool:
        """Return False, reported, if so many alternatives are too many."""
        if count <= MAX_OPTIONS:
            return True
        limit = f"{MAX_OPTIONS} alternatives"
        self.ctx.report(name_errors.TooMuch(self.settings.span, what="this choice", limit=limit))
        self.settings.failed = True
        return False

    def widths(self, key: str, multiple: int) -> list[int]:
        """Return FFN widths of `25% | 4096`, rounded to the nearest multiple."""
        if self.failed or not self.settings.has(key):
            return []
        found = [self._width(key, option, multiple) for option in self.settings.options(key)]
        return [width for width in found if width is not None]

    def _width(self, key: str, option: Located, multiple: int) -> int | None:
        """Return the channels that one width denotes, rounded to the nearest multiple (ties up); None if it is invalid."""
        number = as_constant(self.ctx, option.value, option.span, f"`{key}`", COUNT)
        if number is None:
            self._invalid.add(key)
            return None
        intermediate = self.info.shape.intermediate
        exact = number.value * intermediate if number.form == "percent" else number.value
        rounded = floor(exact / multiple + Fraction(1, 2)) * multiple
        width = int(exact) if exact == intermediate else rounded
        if exact <= 0 or exact > intermediate or width > intermediate or width < 1:
            self._impossible(option, multiple, exact, width)
            self._invalid.add(key)
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


def _same(alternative: Alternative, call: Constructed, info: SpaceInfo) -> SameAlternative:
    shape = info.shape
    if alternative.kind != "parent" or call.name == "parent":
        help = "keep one of them"
    elif alternative.sub_block == "attention":
        help = f"the parent has {shape.kv_heads} key/value heads itself"
    else:
        help = f"the parent's width is {shape.intermediate} itself"
    return SameAlternative(call.span, name=alternative.name, help=help)
