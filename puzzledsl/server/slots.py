"""Expectations at a cursor: visible names, the setting being written, and the arguments of the enclosing call."""

from __future__ import annotations

from collections.abc import Mapping

from puzzledsl.base.diagnostics import Span
from puzzledsl.base.settings import Setting
from puzzledsl.language import calls
from puzzledsl.language.alternatives import alternatives_of
from puzzledsl.language.kinds import KINDS, PROFILE
from puzzledsl.server.cursor import Cursor, OpenCall, path_of
from puzzledsl.server.document import Document
from puzzledsl.server.meanings import Declared
from puzzledsl.server.scopes import Scope, element, nature
from puzzledsl.syntax import tree

ANY = Setting("")
"""A setting that accepts any value."""


def scope_at(document: Document, cursor: Cursor) -> Scope:
    """Return the scope at the cursor."""
    scope = Scope(document.lately).inner()
    first = str(cursor.statement[0]) if cursor.statement else ""
    kind = KINDS.get(cursor.body.kind if cursor.body else first)
    if kind is not None and kind.sees_space:
        scope.see_space()
    inner = scope.inner()
    named: dict[str, tree.Expr | None] = dict(cursor.body.names) if cursor.body else {}
    for index, token in enumerate(cursor.statement[:-2]):
        if token.type == "FOR" and cursor.statement[index + 2].type == "IN":
            named[str(cursor.statement[index + 1])] = path_of(cursor.statement[index + 3 :])
    if cursor.statement and cursor.statement[0].type == "FN":
        head = [t.type for t in cursor.statement]
        end = head.index("EQUAL") if "EQUAL" in head else len(head)
        named |= {str(t): None for t in cursor.statement[2:end] if t.type == "NAME"}
    for name, value in named.items():
        kind_of_value = element(nature(value, inner)[0]) if value is not None else ""
        place = Span(document.lately.file, 1, 1, 1, 1)
        inner.names[name] = Declared(name, "variable", document.key, place), kind_of_value
    return inner


def table_of(cursor: Cursor) -> Mapping[str, Setting]:
    """Return the settings of the body or section that contains the cursor."""
    body = cursor.body
    kind = KINDS.get(body.kind) if body is not None else None
    if body is None or kind is None:
        return {}
    return kind.table(body.section)


def setting_at(cursor: Cursor, scope: Scope) -> Setting:
    """Return the setting whose value stands right of the statement's `=`; ANY if it is unknown."""
    if cursor.body is None:
        kind = KINDS.get(str(cursor.statement[0])) if cursor.statement else None
        return ANY if kind is None or kind.value is None else kind.value
    table = table_of(cursor)
    kinds = [t.type for t in cursor.statement]
    if kinds[:2] == ["NAME", "EQUAL"] and str(cursor.statement[0]) in table:
        return table[str(cursor.statement[0])]
    if cursor.body.kind == "space" and {"EQUAL", "EXTEND"} & set(kinds):
        return alternatives_of(sub_block_of(cursor, scope))
    return ANY


def sub_block_of(cursor: Cursor, scope: Scope) -> str:
    """Return `attention` or `ffn` if the left side of an override names one, else ""."""
    ends = [i for i, t in enumerate(cursor.statement) if t.type in ("EQUAL", "EXTEND", "REMOVE", "KEEP")]
    target = path_of(cursor.statement[: ends[0]]) if ends else None
    found = nature(target, scope)[0] if target is not None else ""
    return found if found in ("attention", "ffn") else ""


def arguments_of(call: OpenCall, scope: Scope, setting: Setting) -> tuple[Mapping[str, Setting], Setting]:
    """Return the arguments of a call and the setting of the one being written."""
    name, place = call.argument
    word = str(call.callee[-1]) if len(call.callee) == 1 else ""
    known = setting.calls.get(word)
    path = path_of(call.callee)
    found = nature(path, scope)[1] if path is not None else None
    if known is None and isinstance(found, Declared):
        if found.kind == "hardware":
            return PROFILE, PROFILE.get(name or "", ANY)
        if found.symbol is not None and isinstance(found.symbol.item, tree.Fn):
            return {p.text: ANY for p in found.symbol.item.parameters}, ANY
        return {}, ANY
    known = known or calls.ANYWHERE.get(word)
    if known is None:
        return {}, ANY
    taken = known.argument(name, place) or ANY
    if known.named_by:
        named = [
            n for n, d in scope.visible().items() if isinstance(d, Declared) and d.kind in known.named_by
        ]
        return dict.fromkeys(named, Setting("Its weight.")), taken
    return known.arguments, taken
