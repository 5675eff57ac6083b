"""Read `attention = …` and `ffn = …`: expand choices into alternatives and check them against the parent.

Every kind of layer reads a choice for itself: `mlp(width: 50%)` is half of each layer's own width. An alternative equal to
the parent's own sub-block becomes `parent`. Duplicates are kept once, in the order written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from math import floor
from typing import Any

from puzzledsl.alternatives.alternative import MIXERS, Alternative, SubBlock, absent
from puzzledsl.alternatives.arguments import Arguments
from puzzledsl.alternatives.errors import PrecisionDoesNotFit
from puzzledsl.alternatives.precision import FULL
from puzzledsl.alternatives.registry import KINDS
from puzzledsl.alternatives.shape import Shape
from puzzledsl.base.diagnostics import Diagnostic, Fix, Span
from puzzledsl.base.phrases import layers_in_words
from puzzledsl.base.units import COUNT, Quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import name_errors, space_errors
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.diagnostics.lints import SameAlternative
from puzzledsl.checker.expressions.coercions import as_constant, as_whole, is_list, report_list
from puzzledsl.checker.expressions.settings import Settings, from_call
from puzzledsl.checker.expressions.values import Constructed, Located, Options, Poison, Scope, Value, describe
from puzzledsl.checker.limits import MAX_COUNT, MAX_OPTIONS
from puzzledsl.checker.names.words import read_word
from puzzledsl.checker.spaces.patterns import report_unknown
from puzzledsl.checker.spaces.space_info import Choice, SpaceInfo
from puzzledsl.ir.nodes import Rounding
from puzzledsl.language.alternatives import ALTERNATIVES, PRECISION
from puzzledsl.syntax import tree


@dataclass(slots=True, eq=False)
class _Kind:
    """Layers with a like sub-block, and the alternatives that were read for them."""

    shape: Shape
    layers: tuple[int, ...]
    found: dict[Alternative, None] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class ChoiceReader:
    """Reader of one space's choices. It records rounded widths in `info` and sets `info.incomplete` if a part is unreadable."""

    ctx: Context
    info: SpaceInfo

    def alternatives(
        self, expr: tree.Expr, scope: Scope, sub_block: SubBlock, layers: Sequence[int], *, each: bool
    ) -> dict[int, Choice]:
        """Return the alternatives that an expression denotes in each of some layers.

        Without `each`, an alternative is for the layers that can have it, and a mistake if none can. With `each`, it
        is a mistake if one of the layers cannot have it.
        """
        wanted, calls = set(layers), self._calls(expr, scope, sub_block)
        kinds = [
            _Kind(own, here)
            for own, indices in self.info.shape.kinds_of(sub_block)
            if (here := tuple(i for i in indices if i in wanted))
        ]
        reasons = [[KINDS[sub_block][call.name].unfit(kind.shape) for kind in kinds] for call in calls]
        for call, unfit in zip(calls, reasons, strict=True):
            self._read(call, KINDS[sub_block][call.name], kinds, unfit, each)
        found: dict[int, Choice] = {}
        for kind in kinds:
            found |= dict.fromkeys(kind.layers, tuple(kind.found))
        return found

    def _read(
        self,
        call: Constructed,
        alternative: type[Alternative],
        kinds: Sequence[_Kind],
        reasons: Sequence[str],
        each: bool,
    ) -> None:
        """Add the alternatives of one call to each kind of layer that can have them; `reasons`: why one cannot."""
        fit = [kind for kind, reason in zip(kinds, reasons, strict=True) if not reason]
        if len(fit) < len(kinds) and (each or not fit):
            unfit = [kind for kind in kinds if kind not in fit]
            there = [kind for kind in unfit if not absent(alternative.sub_block, kind.shape)]
            for kind in unfit if each else there or unfit:
                self._report_unfit(call, alternative.unfit(kind.shape), kind)
        elif len(fit) == 1:
            self._read_one(call, alternative, fit[0])
        elif not self._lists_words(call, alternative) and self._has_values(call, alternative):
            trials = [self.ctx.trial(partial(self._read_one, call, alternative, kind)) for kind in fit]
            for problem in _shared([problems for _, problems, _ in trials], each):
                self.info.incomplete = True
                self.ctx.report(problem)
            self.ctx.warnings += _shared([warnings for _, _, warnings in trials], each=False)

    def _read_one(self, call: Constructed, alternative: type[Alternative], kind: _Kind) -> None:
        if self._lists_words(call, alternative):
            return
        settings = from_call(self.ctx, call, ALTERNATIVES[alternative.sub_block][call.name])
        arguments = CallArguments(self.ctx, self.info, kind.shape, settings)
        for option in self._in_precisions(alternative.read(arguments), arguments, kind):
            if option in kind.found and not call.scope.file.is_std:
                self.ctx.warnings.append(_same(option, call, kind.shape))
            kind.found[option] = None
        self.info.incomplete |= arguments.failed

    def _in_precisions(
        self, options: Sequence[Alternative], call: CallArguments, kind: _Kind
    ) -> Sequence[Alternative]:
        """Return each alternative in each type of `dtype: q8_0 | q4_0`, by type; those that a layer cannot store are reported."""
        if not call.has_precisions:
            return options
        found = [option.in_precision(dtype) for dtype in call.precisions() for option in options]
        for option in found:
            if why := option.misfit(kind.shape):
                said: dict[str, Any] = {"dtype": str(option.dtype), "name": option.plain_name, "why": why}
                if kind.shape.mixer in MIXERS and option.sub_block == "attention":
                    said["help"] = "leave `dtype` out in those layers"
                layers = layers_in_words(kind.layers)
                error = PrecisionDoesNotFit(call.place(PRECISION), layers=layers, **said)
                call.refuse(PRECISION, error)
                return []
        return found if call.affords(len(found)) else []

    def _has_values(self, call: Constructed, alternative: type[Alternative]) -> bool:
        """Return False, reported, if an argument of a call has no value."""
        table = ALTERNATIVES[alternative.sub_block][call.name].arguments
        for argument in call.arguments:
            words = table[argument.name.text].words if argument.name and argument.name.text in table else ()
            options = argument.value.options if isinstance(argument.value, tree.Choice) else (argument.value,)
            for option in options:
                if isinstance(option, tree.Name) and option.text in words:
                    continue
                if isinstance(self.ctx.value(option, call.scope), Poison):
                    self.info.incomplete = True
                    return False
        return True

    def _lists_words(self, call: Constructed, alternative: type[Alternative]) -> bool:
        """Report `dtype: [full, q8_0]`, a list of words where a choice of them is meant; return False for other calls."""
        table = ALTERNATIVES[alternative.sub_block][call.name].arguments
        for argument in call.arguments:
            known = table.get(argument.name.text) if argument.name else None
            if known and known.words and known.noun and isinstance(argument.value, tree.ListExpr):
                count, what = len(argument.value.items), f"`{argument.name.text}`" if argument.name else ""
                report_list(self.ctx, argument.value.span, count, what, f"a {known.noun}")
                self.info.incomplete = True
                return True
        return False

    def _report_unfit(self, call: Constructed, why: str, kind: _Kind) -> None:
        self.info.incomplete = True
        if self.info.guessed:
            return
        layers = layers_in_words(kind.layers)
        text = self.ctx.source(call.span)
        help = (
            "`moe` keeps some of a mixture's experts; a dense FFN has `mlp(width: 50%)`, `linear` and `noop`"
        )
        if call.name != "moe" or kind.shape.ffn != "dense":
            help = ""
        self.ctx.report(space_errors.NotInThisLayer(call.span, layers=layers, text=text, why=why, help=help))

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

    def __init__(self, ctx: Context, info: SpaceInfo, shape: Shape, settings: Settings) -> None:
        self.ctx, self.info, self.shape, self.settings = ctx, info, shape, settings
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
        found = self.settings.whole(key, low, high) if self.has(key) else default
        self.settings.failed |= found is None
        return default if found is None else found

    def wholes(
        self,
        key: str,
        low: int = 1,
        high: int | None = None,
        check: Callable[[int, Span], Diagnostic | None] = lambda number, span: None,
        help: str = "",
    ) -> list[int]:
        """Return the whole numbers of `a | b` within bounds that `check` does not refuse; empty if there are none."""
        options = self.settings.options(key) if self.settings.has(key) else []
        found = [self._whole(key, option, low, high, check, help) for option in options]
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
        help: str = "",
    ) -> int | None:
        if is_list(self.ctx, option.value, option.span, f"`{key}`"):
            self._invalid.add(key)
            return None
        number = as_whole(self.ctx, option.value, option.span, f"`{key}`", low, high, help)
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

    @property
    def has_precisions(self) -> bool:
        """True if `dtype` is written."""
        return PRECISION in self.settings.table and self.settings.has(PRECISION)

    def precisions(self) -> list[str | None]:
        """Return the storage types of `dtype: q8_0 | q4_0`; None stands for `full`."""
        entry, known = self.settings.entry(PRECISION), self.settings.known(PRECISION)
        options = entry.expr.options if isinstance(entry.expr, tree.Choice) else (entry.expr,)
        words = [read_word(self.ctx, option, entry.scope, known.words, known.noun) for option in options]
        if None in words:
            self._invalid.add(PRECISION)
        return [None if word == FULL else word for word in words if word is not None]

    def affords(self, count: int) -> bool:
        """Return False, reported, if so many alternatives are too many."""
        if count <= MAX_OPTIONS:
            return True
        limit = f"{MAX_OPTIONS} alternatives"
        self.ctx.report(name_errors.TooMuch(self.settings.span, what="this choice", limit=limit))
        self.settings.failed = True
        return False

    def widths(self, key: str, multiple: int, whole: int) -> list[int]:
        """Return widths of `25% | 4096`, rounded to the nearest multiple. `whole`: 100 %, and the largest."""
        if self.failed or not self.settings.has(key):
            return []
        found = [self._width(key, option, multiple, whole) for option in self.settings.options(key)]
        return [width for width in found if width is not None]

    def _width(self, key: str, option: Located, multiple: int, whole: int) -> int | None:
        """Return the channels that one width denotes, rounded to the nearest multiple (ties up); None if it is invalid."""
        listed = is_list(self.ctx, option.value, option.span, f"`{key}`")
        number = None if listed else as_constant(self.ctx, option.value, option.span, f"`{key}`", COUNT)
        if number is None:
            self._invalid.add(key)
            return None
        exact = number.value * whole if number.form == "percent" else number.value
        rounded = floor(exact / multiple + Fraction(1, 2)) * multiple
        width = int(exact) if exact == whole else rounded
        if 0 < exact < 1 and number.form == "plain":
            self._share(option, exact)
            self._invalid.add(key)
            return None
        if exact <= 0 or exact > whole or width > whole or width < 1:
            self._impossible(option, multiple, exact, width, whole)
            self._invalid.add(key)
            return None
        self.info.asked.setdefault((whole, width), set()).add(exact)
        if width != exact:
            where = self.ctx.where(option.span)
            self.info.roundings.append(Rounding(asked=where.text, exact=exact, width=width, where=where))
        return width

    def _share(self, option: Located, exact: Fraction) -> None:
        """Report `0.75`, which is less than a channel, where `75%` was meant."""
        share = str(Quantity(exact, COUNT, "percent"))
        fixes = (
            [Fix.replace(option.span, share)] if re.fullmatch(r"[\d.]+", self.ctx.source(option.span)) else []
        )
        help = f"a share of the parent's width is a percentage: write `{share}`"
        what, got = "`width`", self.ctx.source(option.span)
        condition = "a whole number of channels, or a percentage"
        error = types.OutOfRange(option.span, what=what, condition=condition, got=got, help=help, fixes=fixes)
        self.ctx.report(error)

    def _impossible(self, option: Located, multiple: int, exact: Fraction, width: int, whole: int) -> None:
        got = self.ctx.source(option.span)
        if exact <= 0:
            why, help = "no width", "write `noop` to leave the FFN out"
        elif exact > whole:
            why, help = "wider than the parent's FFN", f"widths go up to 100%, which is {whole}"
        elif width < 1:
            why, help = f"0 when rounded to a multiple of {multiple}", f"the least multiple is {multiple}"
        else:
            largest = whole // multiple * multiple
            why = f"{width} when rounded to a multiple of {multiple}, wider than the parent's FFN"
            help = f"the largest multiple that fits is {largest}" if largest else "use a smaller `round:`"
        error = space_errors.ImpossibleWidth(option.span, got=got, why=why, intermediate=whole, help=help)
        self.ctx.report(error)


def _shared(found: Sequence[Sequence[Diagnostic]], each: bool) -> list[Diagnostic]:
    """Return the diagnostics that reading for every kind of layer makes; with `each`, for any of them."""
    by_place = [{(d.code, d.span): d for d in diagnostics} for diagnostics in found]
    places = dict.fromkeys(place for known in by_place for place in known)
    kept = [p for p in places if each or all(p in known for known in by_place)]
    return [next(known[p] for known in by_place if p in known) for p in kept]


def _same(alternative: Alternative, call: Constructed, shape: Shape) -> SameAlternative:
    if not alternative.is_parent or call.name == "parent":
        help = "keep one of them"
    elif alternative.sub_block == "attention":
        help = f"the parent has {shape.kv_heads} key/value heads itself"
    else:
        help = f"the parent's width is {shape.ffn_width} itself"
    return SameAlternative(call.span, name=alternative.name, help=help)
