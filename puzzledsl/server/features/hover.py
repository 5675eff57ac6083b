"""Hover text: a name's value, unit and doc comment; an alternative's cost; the meaning of a word of the language."""

from __future__ import annotations

from typing import cast

from lsprotocol import types

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.ir.metrics import METRICS
from puzzledsl.language import words
from puzzledsl.language.alternatives import ATTENTION, FFN
from puzzledsl.language.kinds import KINDS
from puzzledsl.language.words import KEYWORDS, OPERATORS
from puzzledsl.server import costs
from puzzledsl.server.document import Document, span_of
from puzzledsl.server.features.explaining import explanations_at
from puzzledsl.server.features.navigation import used_path
from puzzledsl.server.meanings import Declared, Occurrence, Word
from puzzledsl.server.nodes_at import enclosing, named_by
from puzzledsl.server.quantities import explain_quantity
from puzzledsl.server.scopes import Scope, nature
from puzzledsl.server.summary import summary
from puzzledsl.server.values import declared_value, local_let, symbol_of, value_at
from puzzledsl.syntax import tree
from puzzledsl.syntax.tokens import Token
from puzzledsl.syntax.unparse import unparse_expr

_LONGEST = 200


def hover(document: Document, line: int, column: int) -> types.Hover | None:
    """Return the hover of a position (1-based line and column); None if there is nothing to show."""
    token = document.token_at(line, column)
    if token is None or token.type in ("COMMENT", "DOC"):
        return None
    text = _of_token(document, token)
    occurrence = document.name_at(line, column)
    if text is None and occurrence is not None and occurrence.meaning is not None:
        text = _of_meaning(document, occurrence)
    said = [*([text] if text else []), *explanations_at(document, line, column)]
    if not said:
        return None
    content = types.MarkupContent(types.MarkupKind.Markdown, "\n\n---\n\n".join(said))
    return types.Hover(content, document.lines.range(span_of(token, "")))


def _of_token(document: Document, token: Token) -> str | None:
    """Return the text for a number, keyword or path, which needs no name resolution."""
    if token.type == "QUANTITY":
        return explain_quantity(str(token))
    if token.type == "STRING":
        path = used_path(document, token.line, token.column + 1)
        return f"`{path}`" if path is not None else None
    if token.type == "SAME_AS":
        return _said("same as", OPERATORS["same as"])
    if token.isalpha() and token.type == token.upper():
        return _said(str(token), KEYWORDS.get(str(token), ""))
    return None


def _said(name: str, doc: str) -> str | None:
    return f"`{name}`: {doc}" if doc else None


def _of_meaning(document: Document, occurrence: Occurrence) -> str | None:
    match occurrence.meaning:
        case Declared() as declared:
            return _parts(_metric_of(document, occurrence, declared), _declared(document, declared))
        case Word(category="kind") as word:
            return f"`{word.name}`: {word.doc}\n\n```pzl\n{KINDS[word.name].form}\n```"
        case Word(category="metric") as word:
            return _metric(document, word.owner, word.name, word.doc, occurrence.within)
        case Word(category="fact") as word:
            return _parts(_said(word.name, word.doc), _value_of_attribute(document, occurrence))
        case Word(name=name) as word if name in ATTENTION or name in FFN:
            if word.category == "call":
                return _parts(_call(word), _costs(document, occurrence))
        case _:
            pass
    word = cast(Word, occurrence.meaning)
    if word.call is not None:
        return _call(word)
    return _said(word.name, word.doc) or None


def _metric_of(document: Document, occurrence: Occurrence, declared: Declared) -> str:
    """Return the metric of a scenario whose name stands before a dot: of `chat` in `chat.memory`; empty for other names."""
    if declared.kind != "scenario" or occurrence.declares:
        return ""
    node = enclosing(document.file.module, occurrence.span, tree.Attribute)
    if node is None or node.target.span != occurrence.span or node.name.text not in words.METRICS:
        return ""
    name = node.name.text
    return _metric(document, declared.name, name, words.METRICS[name].doc, occurrence.within)


def _metric(document: Document, scenario: str, name: str, doc: str, within: str) -> str:
    """Return a metric with its unit, and the parent's value where the profile tells it."""
    parent = costs.parent_metric(document, scenario, name, within)
    unit = METRICS[name].name if name in METRICS else ""
    return _parts(f"`{scenario}.{name}` ({unit}): {doc}", parent)


def _parts(*parts: str | None) -> str:
    return "\n\n".join(p for p in parts if p)


# ---------------------------------------------------------------- names the program gives


def _declared(document: Document, declared: Declared) -> str:
    symbol = declared.symbol
    item = symbol.item if symbol is not None else local_let(document, declared)[0]
    value = declared_value(document, declared) if declared.kind in ("let", "param") else ""
    return _parts(
        f"```pzl\n{_head(declared, item)}\n```",
        getattr(item, "doc", ""),
        f"= {value}" if value and not _says(item, value) else "",
        "\n".join(f"- {line}" for line in _summary(document, declared)),
        f"from `{symbol.file.shown}`" if symbol is not None and declared.key != document.key else "",
    )


def _says(item: tree.Item | None, value: str) -> bool:
    """Return True if the source of a value already shows its value."""
    expr = (
        item.value if isinstance(item, tree.Let) else item.default if isinstance(item, tree.Param) else None
    )
    return expr is not None and _source(expr) == value


def _head(declared: Declared, item: tree.Item | None) -> str:
    """Return a declaration without its body on one line; a long value is cut."""
    match item:
        case tree.Decl():
            of = f" {item.preposition} {_source(item.target)}" if item.target is not None else ""
            value = f" = {_source(item.value)}" if item.value is not None else ""
            return f"{item.kind.text} {item.name.text}{of}{value}" + (" { … }" if item.body else "")
        case tree.Param():
            default = f" = {_source(item.default)}" if item.default is not None else ""
            kind = " | ".join(word.text for word in item.words) or item.type.text
            return f"param {item.name.text}: {kind}{default}"
        case tree.Fn():
            names = ", ".join(p.text for p in item.parameters)
            return f"fn {item.name.text}({names}) = {_source(item.value)}"
        case tree.Let():
            return f"let {item.name.text} = {_source(item.value)}"
        case tree.Use():
            return f'use "{item.path.value}" as {declared.name}'
        case _:
            return f"{declared.kind} {declared.name}"


def _source(expr: tree.Expr) -> str:
    try:
        text = unparse_expr(expr)
    except ValueError:  # it has mistakes in it
        return "…"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _summary(document: Document, declared: Declared) -> list[str]:
    ctx = document.inspected[1]
    symbol = symbol_of(ctx, declared) if ctx is not None else None
    return summary(ctx.lowered.get(symbol)) if ctx is not None and symbol is not None else []


# ---------------------------------------------------------------- words


def _call(word: Word) -> str:
    call = word.call
    assert call is not None
    rows = [f"- `{name}`: {setting.doc}" for name, setting in call.arguments.items()]
    return _parts(_said(word.name, call.doc), "\n".join(rows))


def _value_of_attribute(document: Document, occurrence: Occurrence) -> str:
    node = named_by(document.file.module, occurrence.span)
    if not isinstance(node, tree.Attribute) or nature(node.target, Scope(document.file))[0] not in (
        "parent",
        "hardware",
        "scenario",
    ):
        return ""
    value = value_at(document, node, occurrence.within)
    return f"= {value}" if value else ""


def _costs(document: Document, occurrence: Occurrence) -> str:
    """Return cost tables of the alternatives that a word denotes in its context; empty if there are none."""
    module = document.file.module
    node = named_by(module, occurrence.span)
    if not isinstance(node, tree.Name | tree.Call):
        return ""
    tables: list[str] = []
    for sub_block in _sub_blocks(document, occurrence):
        found = costs.alternatives_of(document, node, occurrence.within, sub_block)
        ctx = document.inspected[1]
        if found is not None and ctx is not None and any(a.kind != "noop" for a, _ in found[1]):
            tables.append(costs.cost_tables(ctx, *found))
    return "\n\n".join(dict.fromkeys(tables))


def _sub_blocks(document: Document, occurrence: Occurrence) -> list[SubBlock]:
    """Return the sub-blocks of which a word can be an alternative, narrowed by the enclosing assignment."""
    could: list[SubBlock] = []
    if occurrence.name in ATTENTION:
        could.append("attention")
    if occurrence.name in FFN:
        could.append("ffn")
    assign = enclosing(document.file.module, occurrence.span, tree.Assign)
    if assign is not None:
        target = assign.target
        name = target.text if isinstance(target, tree.Name) else None
        name = target.name.text if isinstance(target, tree.Attribute) else name
        could = [s for s in could if s == name] or could
    return could
