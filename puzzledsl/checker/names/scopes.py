"""Names visible at a place of a text, each with what it means and its type, as far as the syntax tells."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from puzzledsl.base.frozen import record
from puzzledsl.base.settings import Call
from puzzledsl.checker.expressions.values import LocalNames, Poison, Symbol
from puzzledsl.ir.metric_records import METRICS
from puzzledsl.language import calls, words
from puzzledsl.language.calls import PARENT_FACTS
from puzzledsl.language.kinds import HARDWARE_FACTS
from puzzledsl.syntax import tree

Category = Literal["kind", "type", "setting", "call", "function", "metric", "fact", "space", "word"]


@record
class LanguageWord:
    """A word of the language in its context. `doc` explains it there; `owner` is the construct that it belongs to."""

    name: str
    category: Category
    doc: str = ""
    owner: str = ""
    call: Call | None = field(default=None, compare=False, repr=False)


Meaning = Symbol | LanguageWord
Type = str
"""`layers`, `layer`, `attention`, `ffn` or a declaration's kind; "" for a value, and where only evaluation can tell."""
Typed = tuple[Meaning | None, Type]
SPACE_NAMES: dict[str, Typed] = {
    name: (LanguageWord(name, "space", doc), name if name in ("layers", "attention", "ffn") else "")
    for name, doc in words.SPACE_WORDS.items()
}
"""Names that a space defines for its statements and its searches' expressions."""
VALUES = ("let", "param", "fn")
"""Kinds of symbols that stand for a value."""


class NameScope(LocalNames[Typed]):
    """Names visible at a place, with their meanings and types."""

    def declared(self, name: str) -> Symbol | None:
        """Return the declaration, in the file or in one it uses, that a name refers to."""
        symbol = self.file.names.get(name)
        return symbol if isinstance(symbol, Symbol) else None

    def is_unknown(self, name: str) -> bool:
        """Return True for a name whose declaration cannot be read."""
        return isinstance(self.file.names.get(name), Poison)

    def find(self, name: str) -> Typed | None:
        """Return a name's meaning, local names first; None if undeclared. One step of `let c = chat` is followed, no cycle."""
        symbol = self.declared(name)
        if (local := self.local(name)) is not None or symbol is None:
            return local
        if symbol.kind not in VALUES:
            return symbol, symbol.kind
        value = symbol.item.value if isinstance(symbol.item, tree.Let) else None
        other = symbol.file.names.get(value.text) if isinstance(value, tree.Name) else None
        return symbol, other.kind if isinstance(other, Symbol) and other.kind not in VALUES else ""

    def visible(self) -> dict[str, Meaning]:
        """Return every visible name with its meaning, nearest first."""
        found = {name: meaning for name, (meaning, _) in self.all_local().items() if meaning is not None}
        declared = {name: symbol for name, symbol in self.file.names.items() if isinstance(symbol, Symbol)}
        return found | {name: symbol for name, symbol in declared.items() if name not in found}


def element(kind: Type) -> Type:
    """Return the type of one element of `layers`; any other type is its own."""
    return "layer" if kind == "layers" else kind


def members(meaning: Meaning | None, kind: Type) -> dict[str, Meaning]:
    """Return the names that can follow the dot behind something of this type."""
    match kind:
        case "layers":
            return _words("space", words.SUB_BLOCKS)
        case "layer":
            return _words("space", words.LAYER_FACTS, kind)
        case "attention" | "ffn":
            return _words("fact", words.SUB_BLOCK_FACTS[kind], kind)
        case "scenario":
            metrics = {name: metric.doc for name, metric in METRICS.items()}
            owner = meaning.name if meaning is not None else ""
            return _words("metric", metrics, owner) | _words("fact", words.SCENARIO_FACTS, kind)
        case "parent":
            return _words("fact", PARENT_FACTS, kind)
        case "hardware":
            return _words("fact", HARDWARE_FACTS, kind)
        case "file" if isinstance(meaning, Symbol) and meaning.target is not None:
            return {n: s for n, s in meaning.target.names.items() if isinstance(s, Symbol)}
    return {}


def _words(category: Category, docs: dict[str, str], owner: str = "") -> dict[str, Meaning]:
    return {name: LanguageWord(name, category, doc, owner) for name, doc in docs.items()}


EXPLAINED: dict[str, str] = {**words.ENDS, **words.SUB_BLOCKS, **words.OTHER, **words.DTYPES, **words.VALUES}
"""Words of closed lists and of values, each with the line that explains it."""


def language_word(text: str) -> LanguageWord | None:
    """Return the word of the language that a name is where nothing is declared so."""
    if text in words.FUNCTIONS:
        return LanguageWord(text, "function", words.FUNCTIONS[text])
    if (call := calls.ANYWHERE.get(text)) is not None:
        return LanguageWord(text, "call", call.doc, call=call)
    return LanguageWord(text, "word", EXPLAINED[text]) if text in EXPLAINED else None
