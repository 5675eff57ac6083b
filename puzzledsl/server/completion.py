"""Completion: the words that can be written at a position.

The text at a cursor rarely parses. A declaration begins at the left margin, so only the text since the last such line is
parsed, with a placeholder name at the cursor and all open brackets closed. The checker then says what fits the placeholder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lsprotocol import types

from puzzledsl.base.diagnostics import Sink, Span
from puzzledsl.base.resources import listing
from puzzledsl.base.settings import Call
from puzzledsl.checker.expressions.values import Symbol
from puzzledsl.checker.names.names import Meaning, NameScope, members
from puzzledsl.checker.names.occurrences import CURSOR, Gap, gap_of
from puzzledsl.language import words
from puzzledsl.language.kinds import ANYWHERE, KINDS, alternatives_of
from puzzledsl.server.document import Document
from puzzledsl.syntax import tree
from puzzledsl.syntax.newlines import CONTINUES_AFTER, CONTINUES_BEFORE
from puzzledsl.syntax.parse import parse
from puzzledsl.syntax.tokens import Token, lex

_GOES_ON = (*"and or implies is in mod step where because apart then else for".split(), "same as")
MOST_PATHS = 200  # Files beside the text that `use` offers.
Items = list[types.CompletionItem]
_Kind = types.CompletionItemKind
_ICONS = {
    "kind": _Kind.Keyword,
    "keyword": _Kind.Keyword,
    "setting": _Kind.Property,
    "type": _Kind.TypeParameter,
    "call": _Kind.Constructor,
    "function": _Kind.Function,
    "fn": _Kind.Function,
    "file": _Kind.Module,
    "metric": _Kind.Field,
    "fact": _Kind.Field,
    "word": _Kind.EnumMember,
    "let": _Kind.Constant,
    **dict.fromkeys(("space", "param", "variable", "parameter"), _Kind.Variable),
}


def complete(document: Document, line: int, column: int) -> Items:
    """Return the completion items at a 1-based line and column. A partly written word is ignored: the editor filters by it."""
    written = written_before(document, line, column)
    statement, touching = written.statement, written.touching
    match "" if touching is None else touching.type:
        case "COMMENT" | "DOC" | "QUANTITY":
            return []
        case "STRING" | "UNTERMINATED":
            return _paths(document, written, line, column)
    if not written.opened and statement and statement[0].type == "USE":
        return _keywords(("as",)) if len(statement) == 2 else []
    if not statement and not written.opened:
        kinds = [_item(name, "kind", kind.doc, kind.form, f"{name} ") for name, kind in KINDS.items()]
        return kinds + _keywords(words.TOP_KEYWORDS)
    if not statement:
        gap = written.gap(document, " = 0")
        return [] if gap is None else _statements(gap)
    if _names_something(written):
        kind = KINDS.get(str(statement[0]))
        return _keywords((kind.preposition,)) if len(statement) == 2 and kind and kind.preposition else []
    if written.last is not None and written.last.type in _OPERANDS:  # only an operator can follow a value
        return _keywords(("as", *_GOES_ON) if written.last == "same" else _GOES_ON)
    gap = written.gap(document)
    return [] if gap is None else _in_gap(document, gap)


def _names_something(written: Written) -> bool:
    """Return True if the cursor is where a declaration's new name stands, or right behind that name."""
    kinds = [token.type for token in written.statement]
    if kinds[0] in ("LET", "FN", "PARAM"):
        return "EQUAL" not in kinds and "COLON" not in kinds
    return not written.opened and len(kinds) <= 2 and kinds[0] == "NAME" and written.statement[0] in KINDS


def _in_gap(document: Document, gap: Gap) -> Items:
    match gap.role:
        case "member":
            return [_of_meaning(meaning) for meaning in members(*gap.before).values()]
        case "pattern":
            return _calls(alternatives_of(gap.before[1]).calls)
        case "type":
            return [_item(name, "type", known.doc) for name, known in words.TYPES.items()]
        case "target":
            named = gap.node.name.text if isinstance(gap.node, tree.Decl) else ""
            return [i for i in _of_kinds(gap.scope, (*gap.setting.kinds, "file")) if i.label != named]
        case "import":
            return _names_of_used(document, gap)
        case "statement":
            return _statements(gap)
        case "value":
            return _values(gap)


def _statements(gap: Gap) -> Items:
    """Return items that can begin a statement in the body or section around the cursor."""
    kind = KINDS.get(gap.kind)
    if kind is None:
        return _values(gap)
    table = kind.table(gap.section if gap.section in kind.sections else "")
    found = [_item(name, "setting", s.doc, insert=f"{name} = ") for name, s in table.items()]
    if gap.section in kind.sections:
        return found
    found += [_item(name, "setting", "", insert=f"{name} {{") for name in kind.sections]
    if kind.edits_layers:
        found.append(_item("layers", "space", words.SPACE_WORDS["layers"]))
    return found + _keywords(kind.statements)


def _values(gap: Gap) -> Items:
    """Return items for the values and arguments that the setting and call around the cursor accept."""
    setting = gap.setting
    found = [_item(name, "setting", s.doc, insert=f"{name}: ") for name, s in gap.arguments.items()]
    found += [_item(name, "call", c.doc, ", ".join(c.names)) for name, c in setting.calls.items()]
    plain = (name for name in setting.words if name not in setting.calls)
    found += [_item(name, "word", words.OTHER.get(name, "")) for name in plain]
    if setting.words and not setting.sums:
        return found + _of_kinds(gap.scope, ("let", "param"))
    if setting.kinds:
        found += _of_kinds(gap.scope, (*setting.kinds, "file"))
        if not setting.calls:
            return found + _of_kinds(gap.scope, ("let", "param"))
    found += [_of_meaning(meaning) for meaning in gap.scope.visible().values()]
    found += [_item(name, "function", doc) for name, doc in words.FUNCTIONS.items()]
    found += [_item(name, "word", doc) for name, doc in words.VALUES.items()]
    found += [*_calls(ANYWHERE), *_keywords(("if", "not"))]
    return list({item.label: item for item in reversed(found)}.values())[::-1]  # the first of each label


def _item(name: str, icon: str, doc: str = "", detail: str = "", insert: str = "") -> types.CompletionItem:
    """Return one item with its icon, documentation and inserted text."""
    return types.CompletionItem(
        name,
        kind=_ICONS.get(icon, _Kind.Class),
        detail=detail or None,
        documentation=types.MarkupContent(types.MarkupKind.Markdown, doc) if doc else None,
        insert_text=insert or None,
    )


def _keywords(names: Iterable[str]) -> Items:
    """Return keywords and operators, each followed by a space."""
    known = words.KEYWORDS | words.OPERATORS
    return [_item(name, "keyword", known.get(name, ""), insert=f"{name} ") for name in names]


def _calls(table: Mapping[str, Call]) -> Items:
    return [_item(name, "call", call.doc) for name, call in table.items()]


def _of_meaning(meaning: Meaning) -> types.CompletionItem:
    """Return the item of a declared name or a word."""
    if not isinstance(meaning, Symbol):
        return _item(meaning.name, meaning.category, meaning.doc)
    is_local = meaning.kind in ("variable", "parameter")
    doc = "" if is_local else getattr(meaning.item, "doc", "")
    return _item(meaning.name, meaning.kind, doc, meaning.kind)


def _of_kinds(scope: NameScope, kinds: tuple[str, ...]) -> Items:
    """Return items for the declarations of some kinds that are visible in a scope."""
    found = scope.visible().values()
    return [_of_meaning(s) for s in found if isinstance(s, Symbol) and s.kind in kinds]


def _names_of_used(document: Document, gap: Gap) -> Items:
    """Return items for `use "…" (` : the names that the used file declares and the list does not contain yet."""
    assert isinstance(gap.node, tree.Use)
    other, named = document.file.uses.get(gap.node.path.value), {name.text for name in gap.node.names}
    own = [symbol for symbol in other.symbols() if symbol.file is other] if other is not None else []
    return [_of_meaning(symbol) for symbol in own if symbol.name not in named]


def _paths(document: Document, written: Written, line: int, column: int) -> Items:
    """Return items for `use "`: shipped files, then `.pzl` files beside the text and one folder down. Elsewhere none."""
    touching = written.touching
    if [t.type for t in written.statement] != ["USE"] or touching is None or touching.type == "STRING":
        return []
    top = document.path.parent
    try:
        paths: list[Path] = [*top.glob("*.pzl"), *top.glob("*/*.pzl")]
    except OSError:
        paths = []
    beside = sorted(p.relative_to(top).as_posix() for p in paths if p.name != document.path.name)
    names = [name for name in listing("spaces") if name.startswith("std/")]
    names += [name for name in beside if not name.startswith(".")][:MOST_PATHS]
    place = document.lines.range(Span("", line, column - len(touching) + 1, line, column))
    return [
        types.CompletionItem(n, kind=_Kind.File, filter_text=n, text_edit=types.TextEdit(place, n))
        for n in names
    ]


_CLOSERS = {"LPAR": ")", "LSQB": "]", "LBRACE": "\n}"}
_OPERANDS = ("NAME", "QUANTITY", "STRING", "RPAR", "RSQB")
_WHOLE = ("NAME", "QUANTITY", "STRING", "UNTERMINATED", "COMMENT", "DOC")
"""Kinds of tokens that the cursor continues if it touches their end; it stands behind any other token."""
_ENDINGS = ("", " then 0 else 0", " else 0", " { }")
"""Texts tried in turn behind the placeholder name, until the parsed statement contains it."""


@dataclass(slots=True)
class Written:
    """The text in front of the word at the cursor. `touching`: the token that ends there; `statement`: tokens of the last one."""

    text: str
    touching: Token | None
    statement: list[Token] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)

    @property
    def last(self) -> Token | None:
        """The last token of the statement; None if it has none yet."""
        return self.statement[-1] if self.statement else None

    def gap(self, document: Document, *endings: str) -> Gap | None:
        """Return the checker's description of the cursor's place; None if it finds none with any of the `endings`."""
        closers = "".join(_CLOSERS[kind] for kind in reversed(self.opened))
        for ending in endings or _ENDINGS:
            text = f"{self.text}{CURSOR}{ending}{closers}"
            for item in parse(text, str(document.path), Sink()).items:
                if (found := gap_of(document.file, item)) is not None:
                    return found
        return None


def written_before(document: Document, line: int, column: int) -> Written:
    """Return the text before a 1-based line and column, from the last line that begins at the left margin."""
    lines = document.lines.lines
    first = line
    while first > 1 and not re.match(r"[A-Za-z_]", lines[first - 1]):
        first -= 1
    text = "\n".join([*lines[first - 1 : line - 1], lines[line - 1][: column - 1]])
    tokens = lex(text)
    touching = tokens[-1] if tokens and tokens[-1].type != "_NL" and tokens[-1].end_pos == len(text) else None
    if touching is not None and (touching.type in _WHOLE or touching in words.KEYWORDS):
        text = text[: tokens.pop().start_pos]
    found, ended = Written(text, touching), False  # `ended`: a newline came that may end the statement
    for token in tokens:
        in_brackets = bool(found.opened) and found.opened[-1] != "LBRACE"
        if token.type in ("COMMENT", "DOC"):
            continue
        if token.type == "_NL":
            may_end = found.last is None or found.last.type not in CONTINUES_AFTER
            ended = ended or (not in_brackets and may_end)
            continue
        if ended and token.type not in CONTINUES_BEFORE:
            found.statement = []
        if token.type in _CLOSERS:
            found.opened.append(token.type)
        elif token.type in ("RPAR", "RSQB", "RBRACE") and found.opened:
            found.opened.pop()
        separates = token.type == "COMMA" and found.opened and not in_brackets
        if separates or token.type in ("LBRACE", "RBRACE"):
            found.statement = []
        else:
            found.statement.append(token)
        ended = False
    if ended and (touching is None or touching.type not in CONTINUES_BEFORE):
        found.statement = []
    return found
