"""Patterns over alternatives: `noop`, `mlp(width: >= 25%)`, `gqa(kv_heads: 2 | 1)`.

`gqa` and `mlp` match the parent's own sub-block too, by its figures. A percentage is compared with the width as it was
asked for, before rounding: `mlp(width: >= 20%)` keeps what `mlp(width: 20%, round: 256)` made. A pattern without `dtype`
matches every storage type.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from functools import partial

from puzzledsl.alternatives.alternative import UNCAPPED, Alternative, SubBlock
from puzzledsl.alternatives.precision import FULL, PRECISIONS
from puzzledsl.alternatives.shape import Shape
from puzzledsl.base.diagnostics import Fix
from puzzledsl.base.frozen import record
from puzzledsl.base.suggest import closest
from puzzledsl.base.units import COUNT
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.diagnostics.type_errors import WrongType
from puzzledsl.checker.expressions.coercions import as_constant
from puzzledsl.checker.expressions.layer_tables import holds
from puzzledsl.checker.expressions.search_values import Names
from puzzledsl.checker.expressions.values import Located, Options, Poison, Scope
from puzzledsl.checker.names.words import read_word
from puzzledsl.checker.spaces.space_info import SpaceInfo
from puzzledsl.language.alternatives import ALTERNATIVES, PRECISION, pattern_fields
from puzzledsl.syntax import tree

Predicate = Callable[[Alternative, Shape], bool]
"""A test of an alternative in a layer of a shape."""


@record
class _Test:
    """A comparison of a field with numbers, each with whether it is a percentage."""

    field: str
    op: tree.CompareOp
    values: tuple[tuple[Fraction, bool], ...]

    def passes(self, alternative: Alternative, own: Shape, info: SpaceInfo) -> bool:
        """Return True if one of the alternative's figures compares so with one of the numbers."""
        op: tree.CompareOp = "==" if self.op == "!=" else self.op
        found = any(
            holds(figure, op, value)
            for value, percent in self.values
            for figure in _figures(alternative, self.field, percent, own, info)
        )
        return found != (self.op == "!=")


@record
class _TypeTest:
    """A storage type: one of these words, or none of them."""

    words: tuple[str, ...]
    negated: bool

    def passes(self, alternative: Alternative, own: Shape, info: SpaceInfo) -> bool:
        """Return True if the alternative's type is among the words, or is not if `negated`."""
        return ((alternative.dtype or FULL) in self.words) != self.negated


def predicate(
    ctx: Context,
    pattern: tree.Pattern | tree.PatternChoice,
    scope: Scope,
    info: SpaceInfo,
    sub_block: SubBlock,
) -> Predicate | None:
    """A test for alternatives of `sub_block`; None, reported, for a pattern with a mistake."""
    if isinstance(pattern, tree.PatternChoice):
        options = [predicate(ctx, option, scope, info, sub_block) for option in pattern.options]
        tests_ = [test for test in options if test is not None]
        if len(tests_) < len(options):
            return None
        return lambda alternative, own: any(test(alternative, own) for test in tests_)
    name = pattern.name.text
    if name not in ALTERNATIVES[sub_block]:
        report_unknown(ctx, pattern.name, sub_block)
        return None
    tests = [_field(ctx, field, name, scope) for field in pattern.fields]
    known = [test for test in tests if test is not None]
    if len(known) < len(tests):
        return None

    def matches(alternative: Alternative, own: Shape) -> bool:
        return alternative.answers_to(name, own) and all(t.passes(alternative, own, info) for t in known)

    return matches


def matching(
    ctx: Context,
    pattern: tree.Pattern | tree.PatternChoice,
    scope: Scope,
    info: SpaceInfo,
    sub_block: SubBlock,
    layers: tuple[int, ...],
) -> tuple[Names, Names] | None:
    """Names of the alternatives that match, for each layer those that its like may choose; and of those that do not.

    None, reported, for a mistake.
    """
    test = predicate(ctx, pattern, scope, info, sub_block)
    if test is None:
        return None
    found: tuple[Names, Names] = {}, {}
    wanted = set(layers)
    for own, indices in info.shape.kinds_of(sub_block):
        here = tuple(i for i in indices if i in wanted)
        known = [(a.name, test(a, own)) for a in info.alternatives(sub_block, here)]
        for names, matched in zip(found, (True, False), strict=True):
            names |= dict.fromkeys(here, tuple(name for name, passes in known if passes == matched))
    return found


def report_unknown(ctx: Context, name: tree.Name, sub_block: SubBlock) -> str | None:
    """Report a word that is no alternative of a sub-block; the one that is likely meant, if any."""
    other: SubBlock = "ffn" if sub_block == "attention" else "attention"
    near, fixes = closest(name.text, ALTERNATIVES[sub_block]), list[Fix]()
    if name.text in ALTERNATIVES[other]:
        help = f"`{name.text}` is an alternative of `{other}`; {sub_block} has " + _listed(sub_block)
    elif printed := re.fullmatch(r"(mlp|gqa)(\d+)", name.text):
        key = "width" if printed[1] == "mlp" else "kv_heads"
        meant = f"{printed[1]}({key}: {printed[2]})"
        help, fixes = f"`{name.text}` is a name of tables: write `{meant}`", [Fix.replace(name.span, meant)]
        near = None
    else:
        help = f"{sub_block} alternatives: " + _listed(sub_block)
    ctx.report(
        name_errors.UnknownAlternative(
            name.span, name=name.text, sub_block=sub_block, near=near, help=help, fixes=fixes
        )
    )
    return near


def _listed(sub_block: SubBlock) -> str:
    return ", ".join(f"`{n}`" for n in ALTERNATIVES[sub_block])


def _field(ctx: Context, field: tree.PatternField, name: str, scope: Scope) -> _Test | _TypeTest | None:
    known = pattern_fields(name)
    key = field.name.text
    if key not in known:
        near = closest(key, known)
        takes = f"it has {', '.join(f'`{k}`' for k in known)}" if known else f"write `{name}` alone"
        ctx.report(
            name_errors.UnknownKey(field.name.span, thing=f"`{name}`", name=key, near=near, help=takes)
        )
        return None
    if key == PRECISION:
        return _type_test(ctx, field, scope)
    if isinstance(field.value, tree.Name) and field.value.text == "full" and key == "window":
        return _Test(key, field.op, ((UNCAPPED, False),))
    value = ctx.value(field.value, scope)
    if isinstance(value, Poison):
        return None
    options = value.options if isinstance(value, Options) else (Located(value, field.value.span),)
    found: list[tuple[Fraction, bool]] = []
    for option in options:
        number = as_constant(ctx, option.value, option.span, f"`{key}`", COUNT)
        if number is not None and number.form == "percent" and key != "width":
            ctx.report(WrongType(option.span, what=f"`{key}`", wanted="a number", got="a percentage"))
            number = None
        if number is not None:
            found.append((number.value, number.form == "percent"))
    return _Test(key, field.op, tuple(found)) if len(found) == len(options) else None


def _type_test(ctx: Context, field: tree.PatternField, scope: Scope) -> _TypeTest | None:
    if field.op not in ("==", "!="):
        got, wanted = f"`{field.op}`", "a type alone: `dtype: q8_0`"
        ctx.report(WrongType(field.value.span, what=f"`{PRECISION}`", wanted=wanted, got=got))
        return None
    options = field.value.options if isinstance(field.value, tree.Choice) else (field.value,)
    known: list[str] = []
    for option in options:
        read, problems, _ = ctx.trial(
            partial(read_word, ctx, option, scope, (FULL, *PRECISIONS), "storage type")
        )
        for problem in problems:
            ctx.report(problem)
        if read is not None and not problems:
            known.append(read)
    return _TypeTest(tuple(known), field.op == "!=") if len(known) == len(options) else None


def _figures(
    alternative: Alternative, field: str, percent: bool, own: Shape, info: SpaceInfo
) -> list[Fraction]:
    """The alternative's figures a test compares: several where one width was asked for in several ways."""
    figure = alternative.figure(field, own)
    if figure is None:
        return []
    if not percent:
        return [figure]
    whole = alternative.whole_width(own)
    asked = info.asked.get((whole, int(figure)), {figure})
    return [exact / whole for exact in sorted(asked)]
