"""Values of names in their scopes: `let`s, declarations, and parameters with what `--set NAME=VALUE` gives them."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Sink, Span
from puzzledsl.base.suggest import closest
from puzzledsl.base.units import Dimension, Quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.expressions import values
from puzzledsl.checker.expressions.coercions import EXAMPLES, unit_fixes, would_do
from puzzledsl.checker.names.words import read_word
from puzzledsl.language import words
from puzzledsl.syntax import tree
from puzzledsl.syntax.parse import parse

TYPES: dict[str, Dimension | type[values.Text] | type[values.Boolean]] = {
    name: known.dimension or {"Text": values.Text, "Bool": values.Boolean}[name]
    for name, known in words.TYPES.items()
}
_WANTED = {"Text": "a string", "Bool": "`true` or `false`", "Count": "a whole number (Count)"}


def lookup(ctx: Context, name: str, scope: values.Scope) -> values.Value | None:
    """Return the value of a name in a scope; None if nothing has this name."""
    local = scope.local(name)
    if local is not None:
        return local
    symbol = scope.file.names.get(name)
    if symbol is None or isinstance(symbol, values.Poison):
        return symbol or values.VALUES.get(name)
    ctx.note_used(symbol)
    return value_of(ctx, symbol)


def value_of(ctx: Context, symbol: values.Symbol) -> values.Value:
    """Return a symbol as a value. The value of a `let` or parameter is computed once."""
    item = symbol.item
    if isinstance(item, tree.Fn):
        return values.Function(item, values.Scope(symbol.file))
    if not isinstance(item, tree.Let | tree.Param):
        return values.Ref(symbol)
    if symbol.value is None:
        if symbol.busy:
            chain = f"`{symbol.name}` needs its own value"
            ctx.report(name_errors.CyclicDefinition(symbol.span, name=symbol.name, chain=chain))
            return values.POISON
        symbol.busy = True
        if isinstance(item, tree.Let):
            symbol.value = ctx.value(item.value, values.Scope(symbol.file))
        else:
            symbol.value = ctx.attempt(_parameter, ctx, symbol, item) or values.POISON
        symbol.busy = False
    return symbol.value


def _parameter(ctx: Context, symbol: values.Symbol, param: tree.Param) -> values.Value:
    """The value that `--set` gives a parameter, else its default."""
    name, type_name, scope = symbol.name, param.type.text, values.Scope(symbol.file)
    listed = tuple(dict.fromkeys(word.text for word in param.words))
    if not listed and type_name not in TYPES:
        near, help = closest(type_name, TYPES), "types: " + ", ".join(f"`{t}`" for t in TYPES)
        raise ctx.refuse(name_errors.UnknownType(param.type.span, name=type_name, near=near, help=help))
    expr = param.default
    if name in ctx.settings:
        expr = _parse_setting(ctx, name, ctx.settings[name], note=not listed)
    elif expr is None:
        shown = " | ".join(listed) or type_name
        raise ctx.refuse(name_errors.NoValue(param.name.span, name=name, type=shown))
    elif not listed:
        ctx.parameters.setdefault(name, ctx.source(expr.span))
    if listed:
        word = read_word(ctx, expr, scope, listed, f"value of parameter `{name}`")
        ctx.parameters.setdefault(name, word)
        return values.Text(word, listed)
    if type_name == "Text" and isinstance(expr, tree.Name) and scope.file.names.get(expr.text) is None:
        return values.Text(expr.text)
    return _checked(ctx, ctx.value(expr, scope), name, type_name, expr.span)


def _checked(ctx: Context, value: values.Value, name: str, type_name: str, span: Span) -> values.Value:
    kind, help, fixes = TYPES[type_name], "", []
    got = values.describe(value)
    if not isinstance(kind, Dimension):
        if isinstance(value, kind):
            return value
    elif isinstance(value, Quantity) and value.dimension == kind:
        if type_name != "Count" or (value.value.denominator == 1 and value.form == "plain"):
            return value
        got = str(value)
    elif isinstance(value, Quantity):
        help = would_do(kind, value) or f"write a literal such as `{EXAMPLES[kind]}`"
        fixes = unit_fixes(kind, value, span, ctx.source(span))
    wanted = _WANTED.get(type_name, type_name)
    raise ctx.wrong(
        span, f"parameter `{name}`", wanted, value if value == values.POISON else got, help, fixes
    )


def _parse_setting(ctx: Context, name: str, text: str, note: bool) -> tree.Expr:
    """The expression of one `--set`."""
    file, quiet, source = f"--set {name}", Sink(), f"let {name} = {text}"
    module = parse(source, file, quiet)
    ctx.loader.sources[file] = source
    if note:
        ctx.parameters.setdefault(name, text)
    items = module.items
    if quiet.has_errors or len(items) != 1 or not isinstance(items[0], tree.Let):
        raise ctx.refuse(name_errors.BadSetting(None, name=name, text=text[:60]))
    ctx.loader.files[file] = values.SourceFile(file, file, ctx.root.path, source, module, file)
    return items[0].value


def check_settings(ctx: Context) -> None:
    """Report settings of parameters that no file declares."""
    known = [symbol.name for file in ctx.loader.files.values() for symbol in file.symbols("param")]
    listed = ", ".join(f"`{k}`" for k in dict.fromkeys(known))
    help = f"parameters: {listed}" if known else "the program has no parameters"
    for name in ctx.settings:
        if name not in known:
            near = closest(name, known)
            ctx.report(name_errors.UnknownSetting(None, name=name, near=near, help=help))
