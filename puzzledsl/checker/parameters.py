"""Parameters: `param NAME: Type = default` and their override by `--set NAME=VALUE`."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Sink, Span
from puzzledsl.base.suggest import closest
from puzzledsl.base.units import Dimension, Quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.expressions.dimensions import EXAMPLES, unit_fixes, would_do
from puzzledsl.checker.expressions.values import (
    POISON,
    Boolean,
    Poison,
    Scope,
    SourceFile,
    Symbol,
    Text,
    Value,
    describe,
)
from puzzledsl.checker.names.words import read_word
from puzzledsl.language import words
from puzzledsl.syntax import tree
from puzzledsl.syntax.parse import parse

_WITHOUT_DIMENSION: dict[str, type[Text] | type[Boolean]] = {"Text": Text, "Bool": Boolean}
TYPES: dict[str, Dimension | type[Text] | type[Boolean]] = {
    name: known.dimension or _WITHOUT_DIMENSION[name] for name, known in words.TYPES.items()
}


def parameter_value(ctx: Context, symbol: Symbol, param: tree.Param) -> Value:
    """A parameter's value: what `--set` gave, else its default; POISON, reported, for none or one of another type."""
    if param.words:
        return _word(ctx, symbol, param)
    kind = TYPES.get(param.type.text)
    if kind is None:
        near = closest(param.type.text, TYPES)
        help = "types: " + ", ".join(f"`{t}`" for t in TYPES)
        ctx.report(name_errors.UnknownType(param.type.span, name=param.type.text, near=near, help=help))
        return POISON
    scope, expr = Scope(symbol.file), param.default
    if symbol.name in ctx.settings:
        text = ctx.settings[symbol.name]
        expr = _parse_setting(ctx, symbol.name, text)
    elif expr is not None:
        text = ctx.source(expr.span)
    else:
        ctx.report(name_errors.NoValue(param.name.span, name=symbol.name, type=param.type.text))
        return POISON
    ctx.parameters.setdefault(symbol.name, text)
    if expr is None:
        return POISON
    if kind is Text and isinstance(expr, tree.Name) and scope.file.names.get(expr.text) is None:
        return Text(expr.text)
    return _checked(ctx, ctx.value(expr, scope), symbol.name, param.type.text, kind, expr.span)


def _word(ctx: Context, symbol: Symbol, param: tree.Param) -> Value:
    """A parameter that lists its words: one of them."""
    listed = tuple(dict.fromkeys(word.text for word in param.words))
    if symbol.name in ctx.settings:
        expr = _parse_setting(ctx, symbol.name, ctx.settings[symbol.name])
    elif param.default is not None:
        expr = param.default
    else:
        ctx.report(name_errors.NoValue(param.name.span, name=symbol.name, type=" | ".join(listed)))
        return POISON
    if expr is None:
        return POISON
    word = read_word(ctx, expr, Scope(symbol.file), listed, f"value of parameter `{symbol.name}`")
    if word is None:
        return POISON
    ctx.parameters.setdefault(symbol.name, word)
    return Text(word, listed)


def _checked(
    ctx: Context,
    value: Value,
    name: str,
    type_name: str,
    kind: Dimension | type[Text] | type[Boolean],
    span: Span,
) -> Value:
    if isinstance(value, Poison):
        return POISON
    help, fixes = "", []
    if isinstance(kind, Dimension):
        if isinstance(value, Quantity) and value.dimension == kind:
            whole = value.value.denominator == 1 and value.form == "plain"
            if type_name != "Count" or whole:
                return value
        elif isinstance(value, Quantity):
            help = would_do(kind, value) or f"write a literal such as `{EXAMPLES[kind]}`"
            fixes = unit_fixes(kind, value, span, ctx.source(span))
    elif isinstance(value, kind):
        return value
    wanted = {"Text": "a string", "Bool": "`true` or `false`", "Count": "a whole number (Count)"}.get(
        type_name, type_name
    )
    got = str(value) if isinstance(value, Quantity) and type_name == "Count" and not help else describe(value)
    what = f"parameter `{name}`"
    ctx.report(types.WrongType(span, what=what, wanted=wanted, got=got, help=help, fixes=fixes))
    return POISON


def _parse_setting(ctx: Context, name: str, text: str) -> tree.Expr | None:
    """The expression of one `--set`; None, reported, where it is none."""
    file = f"--set {name}"
    quiet = Sink()
    source = f"let {name} = {text}"
    module = parse(source, file, quiet)
    ctx.loader.sources[file] = source
    items = module.items
    if quiet.has_errors or len(items) != 1 or not isinstance(items[0], tree.Let):
        ctx.report(name_errors.BadSetting(None, name=name, text=text[:60]))
        return None
    ctx.loader.files[file] = SourceFile(file, file, ctx.root.path, source, module, file)
    return items[0].value


def check_settings(ctx: Context) -> None:
    """Report settings of parameters that no file declares."""
    known = [
        s.name
        for f in ctx.loader.files.values()
        for s in f.names.values()
        if isinstance(s, Symbol) and s.kind == "param"
    ]
    for name in ctx.settings:
        if name in known:
            continue
        near = closest(name, known)
        listed = ", ".join(f"`{k}`" for k in dict.fromkeys(known))
        help = f"parameters: {listed}" if known else "the program has no parameters"
        ctx.report(name_errors.UnknownSetting(None, name=name, near=near, help=help))
