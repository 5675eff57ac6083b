"""Completion items of the protocol: label, icon, documentation and inserted text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lsprotocol import types

from puzzledsl.base.settings import Setting
from puzzledsl.language import calls, words
from puzzledsl.language.alternatives import alternatives_of
from puzzledsl.server.meanings import Declared, Word
from puzzledsl.server.scopes import Scope

Items = list[types.CompletionItem]
_ICONS = {
    "kind": types.CompletionItemKind.Keyword,
    "keyword": types.CompletionItemKind.Keyword,
    "setting": types.CompletionItemKind.Property,
    "call": types.CompletionItemKind.Constructor,
    "function": types.CompletionItemKind.Function,
    "metric": types.CompletionItemKind.Field,
    "fact": types.CompletionItemKind.Field,
    "space": types.CompletionItemKind.Variable,
    "word": types.CompletionItemKind.EnumMember,
    "type": types.CompletionItemKind.TypeParameter,
}
_DECLARED = {
    "let": types.CompletionItemKind.Constant,
    "param": types.CompletionItemKind.Variable,
    "variable": types.CompletionItemKind.Variable,
    "fn": types.CompletionItemKind.Function,
    "file": types.CompletionItemKind.Module,
}


def item(name: str, icon: str, doc: str = "", detail: str = "", insert: str = "") -> types.CompletionItem:
    """Return one item with its icon, documentation and inserted text."""
    return types.CompletionItem(
        name,
        kind=_ICONS[icon],
        detail=detail or None,
        documentation=types.MarkupContent(types.MarkupKind.Markdown, doc) if doc else None,
        insert_text=insert or None,
    )


def unique(items: Iterable[types.CompletionItem]) -> Items:
    """Return the items without repeated labels; the first of each counts."""
    return list({i.label: i for i in reversed(list(items))}.values())[::-1]


def keywords(names: Iterable[str]) -> Items:
    """Return keywords and operators, each followed by a space."""
    known = words.KEYWORDS | words.OPERATORS
    return [item(n, "keyword", known.get(n, ""), insert=f"{n} ") for n in names]


def settings(table: Mapping[str, Setting]) -> Items:
    """Return the settings of a body."""
    return [item(n, "setting", s.doc, insert=f"{n} = ") for n, s in table.items() if not s.rare]


def words_of(setting: Setting) -> Items:
    """Return the words and calls of a setting with a closed list."""
    found = [item(n, "call", c.doc, ", ".join(c.names)) for n, c in setting.calls.items()]
    return found + [item(n, "word", words.OTHER.get(n, "")) for n in setting.words if n not in setting.calls]


def alternatives(sub_block: str) -> Items:
    """Return the alternatives of a sub-block; of both for any other word."""
    return [item(n, "call", c.doc) for n, c in alternatives_of(sub_block).calls.items()]


def of_meaning(meaning: Declared | Word) -> types.CompletionItem:
    """Return the item of a declared name or a word."""
    if isinstance(meaning, Word):
        return item(meaning.name, meaning.category, meaning.doc)
    doc = getattr(meaning.symbol.item, "doc", "") if meaning.symbol is not None else ""
    icon = _DECLARED.get(meaning.kind, types.CompletionItemKind.Class)
    note = types.MarkupContent(types.MarkupKind.Markdown, doc) if doc else None
    return types.CompletionItem(meaning.name, kind=icon, detail=meaning.kind, documentation=note)


def visible(scope: Scope) -> Items:
    """Return every name that is visible in a scope."""
    return [of_meaning(meaning) for meaning in scope.visible().values()]


def declarations(scope: Scope, kinds: tuple[str, ...]) -> Items:
    """Return the declarations of some kinds, and the files used `as` a name, which may contain one."""
    found = [m for m in scope.visible().values() if isinstance(m, Declared)]
    return [of_meaning(m) for m in found if m.kind in (*kinds, "file")]


def values(scope: Scope, kinds: tuple[str, ...]) -> Items:
    """Return the declarations of some kinds."""
    found = [m for m in scope.visible().values() if isinstance(m, Declared)]
    return [of_meaning(m) for m in found if m.kind in kinds]


def language() -> Items:
    """Return functions and constructors that are valid anywhere."""
    found = [item(n, "function", d) for n, d in words.FUNCTIONS.items()]
    found += [item(n, "word", d) for n, d in words.VALUES.items()]
    return found + [item(n, "call", c.doc) for n, c in calls.ANYWHERE.items()]
