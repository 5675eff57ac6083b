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
from puzzledsl.base.diagnostics import Args, Fix
from puzzledsl.base.suggest import closest
from puzzledsl.checker.context import Context, Refused
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.expressions.coercions import as_constant
from puzzledsl.checker.expressions.layer_tables import holds
from puzzledsl.checker.expressions.values import Located, Names, Scope, located
from puzzledsl.checker.names.words import read_word
from puzzledsl.checker.spaces.space_info import SpaceInfo
from puzzledsl.language.alternatives import ALTERNATIVES, PRECISION, pattern_fields
from puzzledsl.syntax import tree

Predicate = Callable[[Alternative, Shape], bool]
"""A test of an alternative in a layer of a shape."""


def predicate(
    ctx: Context,
    pattern: tree.Pattern | tree.PatternChoice,
    scope: Scope,
    info: SpaceInfo,
    sub_block: SubBlock,
) -> Predicate:
    """A test for alternatives of `sub_block`."""
    if isinstance(pattern, tree.PatternChoice):
        options = ctx.all(predicate, pattern.options, scope, info, sub_block)
        return lambda alternative, own: any(test(alternative, own) for test in options)
    name = pattern.name.text
    if name not in ALTERNATIVES[sub_block]:
        report_unknown(ctx, pattern.name, sub_block)
        raise Refused
    tests = ctx.all(_field, pattern.fields, name, scope, info)
    return lambda alternative, own: (
        alternative.answers_to(name, own) and all(test(alternative, own) for test in tests)
    )


def matching(
    ctx: Context,
    pattern: tree.Pattern | tree.PatternChoice,
    scope: Scope,
    info: SpaceInfo,
    sub_block: SubBlock,
    layers: tuple[int, ...],
) -> tuple[Names, Names]:
    """Names of the alternatives that match, for each layer those that its like may choose; and of those that do not."""
    test = predicate(ctx, pattern, scope, info, sub_block)
    found: tuple[Names, Names] = {}, {}
    wanted = set(layers)
    for own, indices in info.shape.kinds_of(sub_block):
        here = tuple(i for i in indices if i in wanted)
        known = [(a.name, test(a, own)) for a in info.alternatives(sub_block, here)]
        for names, matched in zip(found, (True, False), strict=True):
            names |= dict.fromkeys(here, tuple(name for name, passes in known if passes == matched))
    return found


def report_unknown(ctx: Context, name: tree.Name, sub_block: SubBlock) -> str | None:
    """Report a word that is no alternative of a sub-block; return the one that is likely meant, if any."""
    other: SubBlock = "ffn" if sub_block == "attention" else "attention"
    near, fixes = closest(name.text, ALTERNATIVES[sub_block]), list[Fix]()
    listed = ", ".join(f"`{n}`" for n in ALTERNATIVES[sub_block])
    help = f"{sub_block} alternatives: {listed}"
    if name.text in ALTERNATIVES[other]:
        help = f"`{name.text}` is an alternative of `{other}`; {sub_block} has {listed}"
    elif printed := re.fullmatch(r"(mlp|gqa)(\d+)", name.text):
        key = "width" if printed[1] == "mlp" else "kv_heads"
        meant = f"{printed[1]}({key}: {printed[2]})"
        help, fixes = f"`{name.text}` is a name of tables: write `{meant}`", [Fix.replace(name.span, meant)]
        near = None
    said: Args = {"name": name.text, "sub_block": sub_block}
    ctx.report(name_errors.UnknownAlternative(name.span, near=near, help=help, fixes=fixes, **said))
    return near


def _field(ctx: Context, field: tree.PatternField, name: str, scope: Scope, info: SpaceInfo) -> Predicate:
    known, key = pattern_fields(name), field.name.text
    if key not in known:
        near = closest(key, known)
        said: Args = {"thing": f"`{name}`", "name": key}
        takes = f"it has {', '.join(f'`{k}`' for k in known)}" if known else f"write `{name}` alone"
        raise ctx.refuse(name_errors.UnknownKey(field.name.span, near=near, help=takes, **said))
    if key == PRECISION:
        return _type_test(ctx, field, scope)
    if isinstance(field.value, tree.Name) and field.value.text == "full" and key == "window":
        values = [(UNCAPPED, False)]
    else:
        options = located(ctx.sound(field.value, scope), field.value.span)
        values = ctx.all(_number, options, key)
    op: tree.CompareOp = "==" if field.op == "!=" else field.op

    def test(alternative: Alternative, own: Shape) -> bool:
        found = any(
            holds(figure, op, value)
            for value, percent in values
            for figure in _figures(alternative, key, percent, own, info)
        )
        return found != (field.op == "!=")

    return test


def _number(ctx: Context, option: Located, key: str) -> tuple[Fraction, bool]:
    """A number that a field is compared with, and whether it is a percentage."""
    number = as_constant(ctx, option.value, option.span, f"`{key}`")
    percent = number.form == "percent"
    if percent and key != "width":
        raise ctx.wrong(option.span, f"`{key}`", "a number", "a percentage")
    return number.value, percent


def _type_test(ctx: Context, field: tree.PatternField, scope: Scope) -> Predicate:
    """A storage type: one of some words, or none of them."""
    if field.op not in ("==", "!="):
        raise ctx.wrong(field.value.span, f"`{PRECISION}`", "a type alone: `dtype: q8_0`", f"`{field.op}`")
    options = field.value.options if isinstance(field.value, tree.Choice) else (field.value,)
    words, mistakes = list[str](), False
    for option in options:
        read = partial(ctx.attempt, read_word, ctx, option, scope, (FULL, *PRECISIONS), "storage type")
        word, problems, _ = ctx.trial(read)
        for problem in problems:
            ctx.report(problem)
        mistakes |= word is None or bool(problems)
        words += [word] if word else []
    if mistakes:
        raise Refused
    return lambda alternative, own: ((alternative.dtype or FULL) in words) != (field.op == "!=")


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
