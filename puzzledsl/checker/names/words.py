"""Names and words: values in their scopes, words of closed lists, references, and help for unknown names."""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain, count

from puzzledsl.base.diagnostics import Args, Edit, Fix, Label, Near, Sink, Span
from puzzledsl.base.phrases import closest, listed
from puzzledsl.base.resources import listing, resource
from puzzledsl.base.units import Dimension, Quantity
from puzzledsl.checker import errors
from puzzledsl.checker.context import Context, Refused
from puzzledsl.checker.expressions import values
from puzzledsl.checker.expressions.numbers import EXAMPLES, unit_fixes, would_do
from puzzledsl.checker.expressions.values import Scope, SourceFile, Symbol, Value, article
from puzzledsl.ir.metric_records import METRICS
from puzzledsl.ir.stage_nodes import JUDGED
from puzzledsl.language import words
from puzzledsl.language.kinds import CONSTRUCTORS, FORMER, FORMER_FIGURES
from puzzledsl.syntax import tree
from puzzledsl.syntax.parse import parse


def read_word(ctx: Context, expr: tree.Expr, scope: Scope, words: Sequence[str], what: str) -> str:
    """Return one of `words`, written bare, as a string or by a `let` or `param`. Report a slip; use the nearest or refuse it."""
    if isinstance(expr, tree.Name) and expr.text in words:
        return expr.text
    got, either = ctx.source(expr.span), listed([f"`{w}`" for w in words], "or")
    if isinstance(expr, tree.Attribute) and (joined := got.replace(".", "_")) in words:
        ctx.report(errors.UnknownWord(expr.span, got=got, what=what, near=Near(joined, alone=True)))
        return joined
    text = expr.text if isinstance(expr, tree.Name) else ""
    symbol = scope.file.names.get(text)
    held = isinstance(symbol, values.Poison) or getattr(symbol, "kind", "") in ("let", "param")
    if not text or held or scope.local(text) is not None:
        value = ctx.value(expr, scope)
        if not isinstance(value, values.Text):
            raise ctx.wrong(expr.span, what, either, value)
        held, text = bool(text) and text != value.value, value.value
    if text in words:
        return text
    near = closest(text, words)
    held &= near is not None  # a `let` has the slip
    help = f"did you mean `{near}`?" if held else f"write {either}"
    ctx.report(errors.UnknownWord(expr.span, got=text, what=what, near=None if held else near, help=help))
    if near is None:
        raise Refused
    return near


def read_ref(ctx: Context, expr: tree.Expr, scope: Scope, kinds: tuple[str, ...]) -> Symbol:
    """Return the declaration, of one of `kinds`, that an expression names; for a misspelt name the nearest. Refuse others."""
    value: Value = values.POISON
    words = (scope.file.names, values.VALUES, CONSTRUCTORS)
    if isinstance(expr, tree.Name) and not scope.local(expr.text) and not any(expr.text in n for n in words):
        unknown_name(ctx, expr, scope, kinds=(*kinds, "let", "param"))
    else:
        value = ctx.value(expr, scope)
    match value:
        case values.Poison():
            # the declaration that a misspelt name most likely means: what follows from it is checked rather than skipped
            noted = ctx.unknown.get((scope.file.file, expr.text), []) if isinstance(expr, tree.Name) else []
            for _, near in noted:
                symbol = scope.file.names.get(near) if near else None
                if isinstance(symbol, Symbol) and symbol.kind in kinds and symbol not in ctx.busy:
                    return symbol
            raise Refused
        case values.Ref(symbol=symbol) if symbol.kind in kinds:
            return symbol
        case values.Ref(symbol=symbol):
            name, got = symbol.name, values.article(symbol.kind)
        case values.Constructed(name=word):
            name = expr.text if isinstance(expr, tree.Name) else word
            got = "a word of the language" if name == word else article(word)
        case _:
            name, got = ctx.source(expr.span), values.describe(value)
    wanted = " or ".join(values.article(k) for k in kinds)
    known = ((k, [f"`{s.name}`" for s in scope.file.symbols(k) if s.file is scope.file]) for k in kinds)
    help = "; ".join(f"{kind}: {', '.join(declared[:8])}" for kind, declared in known if declared)
    if isinstance(value, values.Constructed) and ctx.source(expr.span) != value.name:
        names = chain([f"my_{kinds[0]}"], (f"my_{kinds[0]}{i}" for i in count(2)))
        named = next(free for free in names if free not in scope.file.names)
        help = f"name it first, `{kinds[0]} {named} = {ctx.source(expr.span)}`, and write `{named}` here"
    raise ctx.refuse(errors.WrongKind(expr.span, name=name, got=got, wanted=wanted, help=help))


Words = tuple[str, ...]
_DECLARED = re.compile(r"^(?:let|fn|param|hardware|parent|space)\s+([a-z]\w*)", re.MULTILINE)


def unknown_name(ctx: Context, name: tree.Name, scope: Scope, more: Words = (), kinds: Words = ()) -> None:
    """Note an undeclared name, unless a syntax error may hide its declaration. Suggest one of `kinds` (or any) or of `more`."""
    if scope.file.declares_unread(name.text):
        return
    # declarations of these kinds, and those that could not be read
    others = {s.name for s in scope.file.symbols() if kinds and s.kind not in kinds}
    others |= scope.all_local().keys() if kinds else set()
    fit = [known for known in scope.visible() if known not in others]
    known = name.text in shipped_names() or name.text in FORMER_FIGURES
    near = None if known else closest(name.text, (*fit, *more))
    if near is not None and name.text in words.OTHER:
        near = Near(near, alone=False)  # a word of the language in a wrong place is no slip of the pen
    if near is None and scope.file.lost_names:
        return
    ctx.unknown.setdefault((scope.file.file, name.text), []).append((name.span, near))


def report_unknown_names(ctx: Context) -> None:
    """Report each undeclared name once, at its first use."""
    forgotten = [(file, name) for file, name in ctx.unknown if name in shipped_names()]
    for (file, name), uses in ctx.unknown.items():
        uses.sort(key=lambda use: use[0])
        span, near = uses[0]
        lines = sorted({other.line for other, _ in uses} - {span.line})
        listed = ", ".join(map(str, lines[:8])) + (" …" if len(lines) > 8 else "")
        notes = [f"also on line{'s' if len(lines) > 1 else ''} {listed}"] if lines else []
        symbol = ctx.file_of(span).names.get(near) if near else None
        if isinstance(symbol, Symbol) and symbol.kind == "param" and _attribute(ctx, span):
            near, symbol = None, None  # a number has none
        help, fixes = f"did you mean `{near}`?" if near else "", list[Fix]()
        if name.lower() in ("none", "null"):
            help = "no value is written by leaving the setting out"
        elif near is None:
            help = FORMER.get(name) or FORMER_FIGURES.get(name) or _of_a_metric(ctx, name, span)
        if (file, name) in forgotten:
            help = f"the standard library has it: write `{use_of([name])}`"
            fixes = [_insert_use(ctx.file_of(span), [other for own, other in forgotten if own == file])]
        if near:
            fixes = [Fix(f"write `{near}`", tuple(Edit(other, near) for other, _ in uses), safe=near.alone)]
        own = isinstance(symbol, Symbol) and symbol.file.file == file
        beside = [Label(symbol.span, "declared here")] if own and isinstance(symbol, Symbol) else []
        said: Args = {"name": name, "notes": notes, "help": help, "fixes": fixes, "secondary": beside}
        ctx.report(errors.UnknownName(span, **said))


def _of_a_metric(ctx: Context, name: str, span: Span) -> str:
    """Return the help for an unknown name that is a judge's figure, or that a dot and a figure or metric follow; or empty."""
    file, behind = ctx.file_of(span), _attribute(ctx, span)
    word = behind or name
    if word in JUDGED or word in ("quality", "accuracy"):
        judge, figure = name if behind else "taste", word if word in JUDGED else "kept"
        declared = f"`judge {judge} of PARENT = tasks(…) {{ data = … }}`"
        return f"a judge measures it of whole children: declare {declared}, then write `{judge}.{figure}`"
    metric = word if word in METRICS else closest(word, METRICS)
    if not behind or metric is None:
        return ""
    instead = [f", or write `{scenario.name}.{metric}`" for scenario in file.symbols("scenario")]
    declared = f"declare `scenario {name} on HARDWARE = batch(1, 1Ki -> 256)`"
    return f"a metric is one of a scenario: {declared}{''.join(instead[:1])}"


def _attribute(ctx: Context, span: Span) -> str:
    """Return the word that follows the name at a span and a dot; empty if there is none."""
    found = re.match(r"\.(\w+)", ctx.file_of(span).lines[span.end_line - 1][span.end_column - 1 :])
    return found[1] if found else ""


@cache
def shipped_names() -> dict[str, str]:
    """Every name that a file of the standard library declares, with that file: `h100_sxm` -> `std/hardware.pzl`."""
    names: dict[str, str] = {}
    for file in listing("spaces", "std/*.pzl"):
        for name in _DECLARED.findall(resource("spaces", file).read_text("utf-8")):
            names.setdefault(name, file)
    return names


def of_the_library(name: str, kinds: Words) -> str:
    """Return the help for a name that begins shipped names of some kinds, as `h100` begins `h100_sxm`; or empty."""
    files = {f"std/{kind if kind == 'hardware' else kind + 's'}.pzl" for kind in kinds}
    shipped = shipped_names().items()
    meant = [known for known, file in shipped if file in files and known.startswith(f"{name}_")]
    written = f"write `{use_of(meant[:1])}` and `{meant[0]}`" if meant else ""
    return written and f"the standard library has {', '.join(f'`{n}`' for n in meant)}: {written}"


def use_of(names: Iterable[str]) -> str:
    """Return the `use` lines that import some shipped names, one line a file."""
    by_file: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        by_file.setdefault(shipped_names()[name], []).append(name)
    return "\n".join(f'use "{file}" ({", ".join(listed)})' for file, listed in sorted(by_file.items()))


def _insert_use(file: SourceFile, names: Iterable[str]) -> Fix:
    """Return the fix that writes `use_of(names)` before the first item of a file and that item's doc comment."""
    first = next(iter(file.module.items), None)
    line, text = first.span.line if first else 1, use_of(names)
    while first and not isinstance(first, tree.Use) and line > 1 and file.lines[line - 2].startswith("##"):
        line -= 1
    edit = Edit(Span(file.file, line, 1, line, 1), text + "\n")
    return Fix("write `" + text.replace("\n", "`, `") + "`", (edit,))


TYPES: dict[str, Dimension | type[values.Text] | type[values.Boolean]] = {
    n: known.dimension or {"Text": values.Text, "Bool": values.Boolean}[n] for n, known in words.TYPES.items()
}
_WANTED = {"Text": "a string", "Bool": "`true` or `false`", "Count": "a whole number (Count)"}


def lookup(ctx: Context, name: str, scope: Scope) -> Value | None:
    """Return the value of a name in a scope; None if nothing has this name."""
    local = scope.local(name)
    if local is not None:
        return local
    symbol = scope.file.names.get(name)
    if symbol is None or isinstance(symbol, values.Poison):
        return symbol or values.VALUES.get(name)
    return value_of(ctx, symbol)


def value_of(ctx: Context, symbol: Symbol) -> Value:
    """Return a symbol as a value. The value of a `let` or parameter is computed once."""
    item = symbol.item
    if isinstance(item, tree.Fn):
        return values.Function(item, Scope(symbol.file))
    if not isinstance(item, tree.Let | tree.Param):
        return values.Ref(symbol)
    if symbol.value is None and symbol.busy:
        chain = f"`{symbol.name}` needs its own value"
        ctx.report(errors.CyclicDefinition(symbol.span, name=symbol.name, help=chain))
        return values.POISON
    if symbol.value is None:
        symbol.busy = True
        if isinstance(item, tree.Let):
            symbol.value = ctx.value(item.value, Scope(symbol.file))
        else:
            symbol.value = ctx.attempt(_parameter, ctx, symbol, item) or values.POISON
        symbol.busy = False
    found: Value = symbol.value
    return found


def _parameter(ctx: Context, symbol: Symbol, param: tree.Param) -> Value:
    """Return the value that `--set` gives a parameter, else its default. Refuse one without either, or of a wrong type."""
    name, type_name, scope = symbol.name, param.type.text, Scope(symbol.file)
    listed = tuple(dict.fromkeys(word.text for word in param.words))
    if not listed and type_name not in TYPES:
        near, help = closest(type_name, TYPES), "types: " + ", ".join(f"`{t}`" for t in TYPES)
        raise ctx.refuse(errors.UnknownType(param.type.span, name=type_name, near=near, help=help))
    expr = param.default
    if name in ctx.settings:
        file, quiet, text = f"--set {name}", Sink(), ctx.settings[name]
        ctx.loader.sources[file] = source = f"let {name} = {text}"
        module = parse(source, file, quiet)
        if not listed:
            ctx.parameters.setdefault(name, text)
        match module.items:
            case (tree.Let(value=expr),) if not quiet.has_errors:
                ctx.loader.files[file] = SourceFile(file, file, ctx.root.path, source, module, file)
            case _:
                raise ctx.refuse(errors.BadSetting(None, name=name, text=text[:60]))
    elif expr is None:
        raise ctx.refuse(errors.NoValue(param.name.span, name=name, type=" | ".join(listed) or type_name))
    elif not listed:
        ctx.parameters.setdefault(name, ctx.source(expr.span))
    if listed:
        word = read_word(ctx, expr, scope, listed, f"value of parameter `{name}`")
        ctx.parameters.setdefault(name, word)
        return values.Text(word, listed)
    if type_name == "Text" and isinstance(expr, tree.Name) and scope.file.names.get(expr.text) is None:
        return values.Text(expr.text)
    return _checked(ctx, ctx.value(expr, scope), name, type_name, expr.span)


def _checked(ctx: Context, value: Value, name: str, type_name: str, span: Span) -> Value:
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
    given = value if value == values.POISON else got
    raise ctx.wrong(span, f"parameter `{name}`", wanted, given, help, fixes)


def check_settings(ctx: Context) -> None:
    """Report each `--set` of a parameter that no file declares."""
    known = [symbol.name for file in ctx.loader.files.values() for symbol in file.symbols("param")]
    listed = ", ".join(f"`{k}`" for k in dict.fromkeys(known))
    help = f"parameters: {listed}" if known else "the program has no parameters"
    for name in ctx.settings:
        if name not in known:
            ctx.report(errors.UnknownSetting(None, name=name, near=closest(name, known), help=help))
