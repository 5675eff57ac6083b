"""The name at a position: hover text, go to definition, references, the outline of a text, and renaming.

A name is renamed in all files that use it, or nowhere: the request is refused if one of them has the new name already.
"""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import prod
from pathlib import Path

from lsprotocol import types
from pygls.exceptions import JsonRpcException

from puzzledsl.base.resources import folder
from puzzledsl.base.units import BYTES, BYTES_PER_S, COUNT, FLOP_PER_S, Quantity, format_quantity
from puzzledsl.checker.context import Context
from puzzledsl.checker.expressions import values
from puzzledsl.checker.expressions.values import SourceFile, Symbol
from puzzledsl.checker.names.names import LanguageWord, key_of
from puzzledsl.checker.names.occurrences import Occurrence
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import layer_kinds, total_params
from puzzledsl.ir.metric_records import METRICS
from puzzledsl.language.kinds import KINDS
from puzzledsl.language.words import KEYWORDS, OPERATORS
from puzzledsl.server.document import Document, Lines, covers
from puzzledsl.syntax import tree
from puzzledsl.syntax.tokens import Token, span_of

_Icon = types.SymbolKind


def definition(document: Document, line: int, column: int) -> types.Location | None:
    """Return the place that declares the name at a position, for the path of a `use` the file's start; None for neither."""
    used = used_at(document, line, column)
    if used is not None:
        start = types.Position(0, 0)
        return types.Location(document.project.uri_of(used.path), types.Range(start, start))
    symbol = document.symbol_at(line, column)
    if symbol is None or symbol.file.key == document.key:
        return None if symbol is None else types.Location(document.uri, document.lines.range(symbol.span))
    lines = Lines(symbol.file.text, document.project.encoding)
    return types.Location(document.project.uri_of(symbol.file.path), lines.range(symbol.span))


def references(document: Document, line: int, column: int, declared: bool = True) -> list[types.Location]:
    """Return every use of the name at a position, in all programs of the workspace. `declared`: include its declaration."""
    symbol = document.symbol_at(line, column)
    return [
        types.Location(other.uri, other.lines.range(o.span))
        for other, found in (uses(document, symbol) if symbol is not None else ())
        for o in found
        if declared or o.role != "declares"
    ]


def uses(document: Document, symbol: Symbol) -> Iterator[tuple[Document, list[Occurrence]]]:
    """Yield the texts in which a name can be used, each with its uses there, the declaration included.

    A local name is used in its own text alone; only a `fn`'s parameter can be named by an argument of a call in another file.
    """
    programs = [document]
    is_local = symbol.file.names.get(symbol.name) is not symbol and symbol.kind != "parameter"
    if not is_local:
        declaring = document.project.document(symbol.file.path)
        programs += [*([declaring] if declaring is not None else []), *document.project.programs()]
    seen: set[str] = set()
    for other in programs:
        if other.key in seen or symbol.name not in other.text:
            continue
        seen.add(other.key)
        if other is document or other.key == symbol.file.key or other.uses(symbol.file.key):
            yield other, [o for o in other.names if o.means(symbol)]


def used_at(document: Document, line: int, column: int) -> SourceFile | None:
    """Return the file whose path in a `use` is at a position; None if there is none."""
    found = (use.path.value for use in document.used if covers(use.path.span, line, column))
    return next((document.file.uses.get(path) for path in found), None)


def outline(document: Document) -> list[types.DocumentSymbol]:
    """Return the declarations of a text in source order, each with the statements of its body as children."""
    return _symbols(document, document.parsed[0].items)


def _symbols(document: Document, nodes: Sequence[tree.Item | tree.Stmt]) -> list[types.DocumentSymbol]:
    return [symbol for node in nodes if (symbol := _symbol(document, node)) is not None]


def _symbol(document: Document, node: tree.Item | tree.Stmt) -> types.DocumentSymbol | None:
    detail, title = type(node).__name__.lower(), ""
    shown: tree.Expr
    body: tuple[tree.Stmt, ...] = ()
    match node:
        case tree.Decl(name=name, kind=tree.Name(text=detail)):
            icon, shown, body = _Icon.Object, name, node.body or ()
        case tree.Fn(name=shown):
            icon = _Icon.Function
        case tree.Param(name=shown):
            icon = _Icon.Variable
        case tree.Let(name=shown):
            icon = _Icon.Constant
        case tree.Use(alias=tree.Name() as shown):
            icon = _Icon.Module
        case tree.Assign(target=target):
            icon, shown, title, detail = _Icon.Property, target, document.file.source(target.span), ""
        case tree.Section(name=shown, body=body):
            icon, detail = _Icon.Namespace, ""
        case tree.ForAll(variable=shown, body=body):
            icon, title, detail = _Icon.Array, f"for {shown.text}", ""
        case tree.Require(condition=shown) | tree.Prefer(condition=shown) | tree.Objective(expression=shown):
            keyword = node.sense if isinstance(node, tree.Objective) else detail
            text = " ".join(document.file.source(shown.span).split())
            title = f"{keyword} {_cut(text, 60)}"
            icon, detail = _Icon.Boolean, ""
        case _:
            return None
    whole, at = document.lines.range(node.span), document.lines.range(shown.span)
    title = title or getattr(shown, "text", "")
    children = _symbols(document, body) or None
    return types.DocumentSymbol(title, icon, whole, at, detail or None, children=children)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
Changes = list[tuple[Document, list[Occurrence]]]


class Refused(JsonRpcException):
    """Raised for a request that fails, such as renaming a keyword; the message tells the user why."""

    CODE = -32803  # RequestFailed


def prepare(document: Document, line: int, column: int) -> types.PrepareRenamePlaceholder:
    """Return the name at a position and its range. Raises Refused if it cannot be renamed."""
    occurrence, _ = _renamable(document, line, column)
    return types.PrepareRenamePlaceholder(document.lines.range(occurrence.span), occurrence.name)


def rename(document: Document, line: int, column: int, new: str) -> types.WorkspaceEdit:
    """Return the edits that change the name at a position to `new` everywhere. Raises Refused."""
    occurrence, symbol = _renamable(document, line, column)
    if not _NAME.fullmatch(new):
        raise Refused(f"`{new}` is no name: letters, digits and `_`, not a digit first")
    if new in KEYWORDS:
        raise Refused(f"`{new}` is a word of the language")
    changes: Changes = []
    for other, found in uses(document, symbol):
        if other.parsed[0].broken:
            mend = "mend its syntax first, or uses may be missed"
            raise Refused(f"`{other.path.name}` cannot be read to its end: {mend}")
        if found:
            changes.append((other, found))
    for other, _ in changes if new != occurrence.name else ():
        if new in other.file.names or any(o.name == new for o in other.names):
            raise Refused(f"`{new}` stands for something else in {other.path.name}")
    edits = []
    for other, found in changes:
        text = types.OptionalVersionedTextDocumentIdentifier(other.uri, other.version)
        new_names = [types.TextEdit(other.lines.range(o.span), new) for o in found]
        edits.append(types.TextDocumentEdit(text, list(new_names)))
    return types.WorkspaceEdit(document_changes=list(edits))


def _renamable(document: Document, line: int, column: int) -> tuple[Occurrence, Symbol]:
    occurrence = document.name_at(line, column)
    if occurrence is None:
        raise Refused("there is no name here")
    symbol = occurrence.symbol
    if symbol is None:
        raise Refused(f"nothing is called `{occurrence.name}`")
    if not isinstance(symbol, Symbol):
        raise Refused(f"`{occurrence.name}` is a word of the language")
    path = symbol.file.path
    if Path(symbol.file.key).is_relative_to(key_of(folder("spaces"))):
        raise Refused(f"`{symbol.name}` is declared in `{path.name}`, which comes with pzl")
    return occurrence, symbol


MOST = 12  # Options and elements that are shown.


def hover(document: Document, line: int, column: int) -> types.Hover | None:
    """Return the hover of a position (1-based line and column); None if there is nothing to show."""
    token = document.token_at(line, column)
    if token is None or token.type in ("COMMENT", "DOC"):
        return None
    text = _of_token(document, token)
    occurrence = document.name_at(line, column)
    if text is None and occurrence is not None:
        text = _of_name(document, occurrence)
    if not text:
        return None
    content = types.MarkupContent(types.MarkupKind.Markdown, text)
    return types.Hover(content, document.lines.range(span_of(token, "")))


def _of_token(document: Document, token: Token) -> str | None:
    """Return the hover text of a keyword or of the path of a `use`; None for any other token."""
    match token.type:
        case "STRING":
            used = used_at(document, token.line, token.column + 1)
            return f"`{used.path}`" if used is not None else None
        case "SAME_AS":
            return _said("same as", OPERATORS["same as"])
    is_keyword = token.isalpha() and token.type == token.upper()
    return _said(str(token), KEYWORDS.get(str(token), "")) if is_keyword else None


def _of_name(document: Document, occurrence: Occurrence) -> str | None:
    symbol, node, within = occurrence.symbol, occurrence.node, occurrence.within
    match symbol:
        case None:
            return None
        case Symbol():
            return _declared(document, symbol, within)
        case LanguageWord(category="kind"):
            return f"`{symbol.name}`: {symbol.doc}\n\n```pzl\n{KINDS[symbol.name].form}\n```"
        case LanguageWord(category="metric"):
            metric = METRICS[symbol.name]
            return f"`{symbol.owner}.{symbol.name}` ({metric.dimension.name}): {metric.doc}"
        case LanguageWord(category="fact"):
            known = symbol.owner in ("parent", "hardware", "scenario") and isinstance(node, tree.Attribute)
            ctx = document.inspected[1] if known else None
            value = _show(document.value_at(node, within), ctx) if ctx is not None else ""  # type: ignore[arg-type]
            return _parts(_said(symbol.name, symbol.doc), f"= {value}" if value else "")
    if symbol.call is None:
        return _said(symbol.name, symbol.doc)
    rows = [f"- `{name}`: {setting.doc}" for name, setting in symbol.call.arguments.items()]
    return _parts(_said(symbol.name, symbol.call.doc), "\n".join(rows))


def _said(name: str, doc: str) -> str | None:
    return f"`{name}`: {doc}" if doc else None


def _parts(*parts: str | None) -> str:
    return "\n\n".join(p for p in parts if p)


def _declared(document: Document, symbol: Symbol, within: str) -> str:
    """Return a declaration's hover: head, doc comment, its value if the source shows another text, summary, and file."""
    ctx, file = document.inspected[1], symbol.file
    item = None if symbol.kind in ("variable", "parameter") else symbol.item
    value, lines = "", list[str]()
    if ctx is not None:
        expr = item.value if isinstance(item, tree.Let) else None
        expr = item.default if isinstance(item, tree.Param) else expr
        if isinstance(item, tree.Let | tree.Param):
            value = _show(document.value_of(symbol, within), ctx)
        value = "" if expr is not None and _source(file, expr) == value else value
        known = ctx.symbol_at(symbol.place)
        lines = [] if known is None else _summary(ctx.lowered.get(known))
    return _parts(
        f"```pzl\n{_head(symbol, item)}\n```",
        getattr(item, "doc", ""),
        f"= {value}" if value else "",
        "\n".join(f"- {line}" for line in lines),
        f"from `{file.shown}`" if file.key != document.key else "",
    )


def _head(symbol: Symbol, item: tree.Item | None) -> str:
    """Return a declaration without its body on one line; a long one is cut."""
    match item:
        case tree.Decl(body=body):
            text = _source(symbol.file, item)
            return text.partition("{")[0] + "{ … }" if body else text
        case tree.Param() | tree.Fn() | tree.Let():
            return _source(symbol.file, item)
        case tree.Use():
            return f'use "{item.path.value}" as {symbol.name}'
        case _:
            return f"{symbol.kind} {symbol.name}"


def _source(file: SourceFile, node: tree.Node) -> str:
    """Return a node as written, on one line and without comments; `…` for one that could not be read."""
    if isinstance(node, tree.BadExpr):
        return "…"
    text = " ".join(re.sub(r"\s#[^\"\n]*$", "", file.source(node.span), flags=re.MULTILINE).split())
    return _cut(text, 200)


def _show(value: values.Value, ctx: Context) -> str:
    """Return a value in one line; empty if it is unknown because of a mistake."""
    match value:
        case values.Poison():
            return ""
        case Quantity():
            return str(value)
        case values.Text(value=text):
            return f'"{text}"'
        case values.Boolean(value=truth):
            return str(truth).lower()
        case values.Constructed():
            return " ".join(ctx.source(value.span).split())
        case values.Options(options=options):
            return _joined([_show(o.value, ctx) for o in options], " | ")
        case values.ListValue(items=items):
            return "[" + _joined([_show(i, ctx) for i in items], ", ") + "]"
        case values.RangeValue(low=low, high=high, step=step):
            return f"{low}..{high}" + ("" if step is None else f" step {Quantity(step, low.dimension)}")
        case values.Symbolic(terms=terms) if terms:
            return f"{value.dimension.name}, decided by the search"
        case values.Layers(indices=indices) if indices:
            return f"{len(indices)} layer{'s' if len(indices) > 1 else ''}"
        case values.Facts() | values.SubBlocks() | values.ModelEnd():
            return f"{values.describe(value)}, decided by the search"
        case _:
            return values.describe(value)


def _joined(parts: list[str], sign: str) -> str:
    return sign.join(parts if len(parts) <= MOST else [*parts[:MOST], "…"])


def _summary(node: object) -> list[str]:
    """Return a few lines about a lowered parent, hardware profile or space; an empty list for any other declaration."""
    match node:
        case nodes.Parent(shape=shape):
            tied = ", tied" if shape.tied else ""
            return [
                f"{shape.family}, {format_quantity(total_params(shape), COUNT)} parameters, {shape.layers} layers",
                f"hidden {shape.hidden}, {shape.heads} heads of {shape.head_dim}, {shape.kv_heads} KV heads, "
                f"intermediate {shape.intermediate}, vocabulary {shape.vocab}{tied}",
                *layer_kinds(shape),
            ]
        case nodes.Hardware(spec=nodes.RooflineHardware() as spec):
            memory = format_quantity(Fraction(spec.memory_bytes), BYTES)
            bandwidth = format_quantity(spec.bandwidth_bytes_per_s, BYTES_PER_S)
            peaks = ", ".join(f"{d} {format_quantity(f, FLOP_PER_S)}" for d, f in spec.flop_per_s.items())
            gpus = f"{spec.gpus} GPU{'s, each' if spec.gpus > 1 else ''}"
            return [
                f"profile `{spec.profile}`: {gpus} {memory}, {bandwidth}, {peaks}",
                f"weights {spec.dtype}, KV cache {spec.kv_dtype}, embedding {spec.embedding_dtype}",
            ]
        case nodes.Space():
            size = prod(len(c.attention) * len(c.ffn) for c in node.layers)
            return [f"{size if size < 10**6 else f'about 10^{len(str(size)) - 1}'} children"]
    return []
