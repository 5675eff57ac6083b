"""Arguments of an alternative's constructor, `gqa(kv_heads: 4 | 2)`, as its file reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from typing import NoReturn

from puzzledsl.alternatives.arguments import Arguments
from puzzledsl.alternatives.precision import FULL
from puzzledsl.alternatives.shape import Shape
from puzzledsl.base.diagnostics import Args, Diagnostic, Fix, Span
from puzzledsl.base.units import COUNT, Quantity
from puzzledsl.checker.diagnostics.name_errors import TooMuch
from puzzledsl.checker.diagnostics.space_errors import ImpossibleWidth
from puzzledsl.checker.diagnostics.type_errors import OutOfRange
from puzzledsl.checker.expressions.coercions import as_constant, as_whole, refuse_list
from puzzledsl.checker.expressions.settings import Settings
from puzzledsl.checker.expressions.values import Located, located
from puzzledsl.checker.limits import MAX_COUNT, MAX_OPTIONS
from puzzledsl.checker.names.words import read_word
from puzzledsl.checker.spaces.space_info import SpaceInfo
from puzzledsl.ir.nodes import Rounding
from puzzledsl.language.alternatives import PRECISION
from puzzledsl.syntax import tree


@dataclass(slots=True, eq=False)
class CallArguments(Settings, Arguments):
    """The arguments of one call in a layer of a shape. Rounded widths are recorded in `info`."""

    info: SpaceInfo = field(kw_only=True)
    shape: Shape = field(kw_only=True)
    invalid: set[str] = field(default_factory=set)

    def is_valid(self, key: str) -> bool:
        """Return False once a mistake was found in this argument."""
        return key not in self.invalid

    def refuse(self, key: str, problem: Diagnostic) -> None:
        """Report a mistake in an argument."""
        self.report(problem)
        self.invalid.add(key)

    def affords(self, count: int) -> bool:
        """Return False, reported, if so many alternatives are too many."""
        if count > MAX_OPTIONS:
            limit = f"{MAX_OPTIONS} alternatives"
            self.report(TooMuch(self.span, what="this choice", limit=limit))
        return count <= MAX_OPTIONS

    def _each(self, key: str, options: Iterable[Located], read: Callable[[Located], int]) -> list[int]:
        """Return what `read` makes of each option, without those that it refuses."""
        found = [self.ctx.attempt(read, option) for option in options]
        if None in found:
            self.failed = True
            self.invalid.add(key)
        return [each for each in found if each is not None]

    def _options(self, key: str) -> list[Located]:
        """Return the options of `a | b`; none where it is not written."""
        value = self.attempt(self.value, key) if self.has(key) else None
        return [] if value is None else located(value, self.place(key))

    def whole(self, key: str, default: int, low: int = 0, high: int = MAX_COUNT) -> int:
        """Return a whole number within bounds."""
        found = self.attempt(self.count, key, low, high) if self.has(key) else default
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

        def read(option: Located) -> int:
            number = self._whole(key, option, low, high, help)
            if (problem := check(number, option.span)) is not None:
                raise self.ctx.refuse(problem)
            return number

        return self._each(key, self._options(key), read)

    def _whole(self, key: str, option: Located, low: int, high: int | None, help: str = "") -> int:
        refuse_list(self.ctx, option.value, option.span, f"`{key}`")
        return as_whole(self.ctx, option.value, option.span, f"`{key}`", low, high, help)

    def wholes_or(self, key: str, word: str, low: int = 1, high: int | None = None) -> list[int | None]:
        """Return whole numbers like `wholes`; None stands for `word`."""
        entry = self.entry(key)
        found: list[int | None] = []
        for expr in entry.expr.options if isinstance(entry.expr, tree.Choice) else (entry.expr,):
            if isinstance(expr, tree.Name) and expr.text == word:
                found.append(None)
            else:
                options = located(self.ctx.value(expr, entry.scope), expr.span)
                found += self._each(key, options, lambda option: self._whole(key, option, low, high))
        return found

    @property
    def has_precisions(self) -> bool:
        """True if `dtype` is written."""
        return PRECISION in self.table and self.has(PRECISION)

    def precisions(self) -> list[str | None]:
        """Return the storage types of `dtype: q8_0 | q4_0`; None stands for `full`."""
        entry, known = self.entry(PRECISION), self.known(PRECISION)
        options = entry.expr.options if isinstance(entry.expr, tree.Choice) else (entry.expr,)
        words = [
            self.ctx.attempt(read_word, self.ctx, option, entry.scope, known.words, known.noun)
            for option in options
        ]
        if None in words:
            self.failed = True
            self.invalid.add(PRECISION)
        return [None if word == FULL else word for word in words if word is not None]

    def widths(self, key: str, multiple: int, whole: int) -> list[int]:
        """Return widths of `25% | 4096`, rounded to the nearest multiple. `whole`: 100 %, and the largest."""
        options = [] if self.failed else self._options(key)
        return self._each(key, options, lambda option: self._width(option, multiple, whole))

    def _width(self, option: Located, multiple: int, whole: int) -> int:
        """Return the channels that one width denotes, rounded to the nearest multiple (ties up)."""
        refuse_list(self.ctx, option.value, option.span, "`width`")
        number = as_constant(self.ctx, option.value, option.span, "`width`")
        exact = number.value * whole if number.form == "percent" else number.value
        rounded = floor(exact / multiple + Fraction(1, 2)) * multiple
        width = int(exact) if exact == whole else rounded
        if 0 < exact < 1 and number.form == "plain":
            self._refuse_share(option, exact)
        if exact <= 0 or exact > whole or width > whole or width < 1:
            self._refuse_width(option, multiple, exact, width, whole)
        self.info.asked.setdefault((whole, width), set()).add(exact)
        if width != exact:
            where = self.ctx.where(option.span)
            self.info.roundings.append(Rounding(asked=where.text, exact=exact, width=width, where=where))
        return width

    def _refuse_share(self, option: Located, exact: Fraction) -> NoReturn:
        """Refuse `0.75`, which is less than a channel, where `75%` was meant."""
        share, got = str(Quantity(exact, COUNT, "percent")), self.ctx.source(option.span)
        fixes = [Fix.replace(option.span, share)] if re.fullmatch(r"[\d.]+", got) else []
        help = f"a share of the parent's width is a percentage: write `{share}`"
        said: Args = {
            "what": "`width`",
            "condition": "a whole number of channels, or a percentage",
            "got": got,
        }
        raise self.ctx.refuse(OutOfRange(option.span, help=help, fixes=fixes, **said))

    def _refuse_width(
        self, option: Located, multiple: int, exact: Fraction, width: int, whole: int
    ) -> NoReturn:
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
        said: Args = {"got": self.ctx.source(option.span), "why": why, "intermediate": whole}
        raise self.ctx.refuse(ImpossibleWidth(option.span, help=help, **said))
