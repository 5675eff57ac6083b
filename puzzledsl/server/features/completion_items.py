"""Completion items of the protocol: label, icon, documentation and inserted text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lsprotocol import types

from puzzledsl.base.settings import Call, Setting
from puzzledsl.checker.expressions.values import Symbol
from puzzledsl.checker.names.scopes import Meaning, NameScope
from puzzledsl.language import calls, words

Items = list[types.CompletionItem]
_Kind = types.CompletionItemKind
_ICONS = {
    "kind": _Kind.Keyword,
    "keyword": _Kind.Keyword,
    "setting": _Kind.Property,
    "call": _Kind.Constructor,
    "function": _Kind.Function,
    "metric": _Kind.Field,
    "fact": _Kind.Field,
    "space": _Kind.Variable,
    "word": _Kind.EnumMember,
    "type": _Kind.TypeParameter,
    "let": _Kind.Constant,
    "param": _Kind.Variable,
    "variable": _Kind.Variable,
    "parameter": _Kind.Variable,
    "fn": _Kind.Function,
    "file": _Kind.Module,
}


def item(name: str, icon: str, doc: str = "", detail: str = "", insert: str = "") -> types.CompletionItem:
    """Return one item with its icon, documentation and inserted text."""
    return types.CompletionItem(
        name,
        kind=_ICONS.get(icon, _Kind.Class),
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


def calls_of(table: Mapping[str, Call]) -> Items:
    """Return the words of some constructors, such as the alternatives of a sub-block."""
    return [item(n, "call", c.doc) for n, c in table.items()]


def of_meaning(meaning: Meaning) -> types.CompletionItem:
    """Return the item of a declared name or a word."""
    if not isinstance(meaning, Symbol):
        return item(meaning.name, meaning.category, meaning.doc)
    is_local = meaning.kind in ("variable", "parameter")
    doc = "" if is_local else getattr(meaning.item, "doc", "")
    return item(meaning.name, meaning.kind, doc, meaning.kind)


def of_kinds(scope: NameScope, kinds: tuple[str, ...]) -> Items:
    """Return the declarations of some kinds that are visible in a scope."""
    found = scope.visible().values()
    return [of_meaning(s) for s in found if isinstance(s, Symbol) and s.kind in kinds]


def language() -> Items:
    """Return functions and constructors that are valid anywhere."""
    found = [item(n, "function", d) for n, d in words.FUNCTIONS.items()]
    found += [item(n, "word", d) for n, d in words.VALUES.items()]
    return found + calls_of(calls.ANYWHERE)
