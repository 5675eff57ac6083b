"""Visible names and the kind of thing that each denotes, as needed for completion behind a dot."""

from __future__ import annotations

from dataclasses import dataclass, field

from puzzledsl.checker.expressions.values import Poison, SourceFile, Symbol
from puzzledsl.language import words
from puzzledsl.language.calls import PARENT_FACTS
from puzzledsl.language.kinds import HARDWARE_FACTS
from puzzledsl.server.meanings import Declared, Word
from puzzledsl.server.paths import key_of
from puzzledsl.syntax import tree

Nature = str
"""`layers`, `layer`, `attention`, `ffn` or a declaration's kind; "" if only evaluation can tell."""


@dataclass(slots=True, eq=False)
class Scope:
    """Local names, then those of the outer scope, then those of the file."""

    file: SourceFile
    outer: Scope | None = None
    names: dict[str, tuple[Declared | Word, Nature]] = field(default_factory=dict)

    def inner(self) -> Scope:
        """Return a new scope inside this one."""
        return Scope(self.file, self)

    def local(self, name: str) -> tuple[Declared | Word, Nature] | None:
        """Return the meaning of a name bound by a body, a `for` or a `fn`; None if there is none."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return None

    def declared(self, name: str) -> Declared | None:
        """Return the declaration, in the file or in one it uses, that a name refers to."""
        symbol = self.file.names.get(name)
        return declared(symbol) if isinstance(symbol, Symbol) else None

    def is_unknown(self, name: str) -> bool:
        """Return True for a name whose declaration cannot be read."""
        return isinstance(self.file.names.get(name), Poison)

    def find(self, name: str) -> tuple[Declared | Word, Nature] | None:
        """Return the meaning of a name in this scope; None if it is undeclared."""
        local = self.local(name)
        if local is not None:
            return local
        found = self.declared(name)
        if found is not None:
            return found, nature_of(found)
        return None

    def see_space(self) -> None:
        """Add the names that a space defines for its statements and its searches' expressions."""
        for name, doc in words.SPACE_WORDS.items():
            nature = name if name in ("layers", "attention", "ffn") else ""
            self.names[name] = Word(name, "space", doc), nature

    def visible(self) -> dict[str, Declared | Word]:
        """Return every visible name with its meaning, nearest first."""
        found: dict[str, Declared | Word] = {}
        scope: Scope | None = self
        while scope is not None:
            for name, (meaning, _) in scope.names.items():
                found.setdefault(name, meaning)
            scope = scope.outer
        for name in self.file.names:
            symbol = self.declared(name)
            if symbol is not None:
                found.setdefault(name, symbol)
        return found


def declared(symbol: Symbol) -> Declared:
    """Return a symbol as a meaning."""
    return Declared(symbol.name, symbol.kind, key_of(symbol.file.path), symbol.span, symbol)


def nature_of(found: Declared) -> Nature:
    """Return the nature of a declaration: its kind; "" for values."""
    return "" if found.kind in ("let", "param", "fn") else found.kind


def nature(expr: tree.Expr, scope: Scope) -> tuple[Nature, Declared | Word | None]:
    """Return the nature of an expression, as far as its syntax tells, and the meaning of a plain or file-qualified name."""
    match expr:
        case tree.Name(text=text):
            found = scope.find(text)
            if found is None:
                return "", None
            known, kind = found
            if not kind and isinstance(known, Declared) and known.symbol is not None:
                return _of_let(known.symbol), known
            return kind, known
        case tree.Index(target=target):
            return element(nature(target, scope)[0]), None
        case tree.Attribute(target=target, name=name):
            kind, meaning = nature(target, scope)
            if kind in ("layers", "layer") and name.text in ("attention", "ffn"):
                return name.text, None
            if kind == "file" and isinstance(meaning, Declared):
                other = member_of_file(meaning, name.text)
                return (nature_of(other), other) if other is not None else ("", None)
        case tree.Call(function=tree.Name(text=text) as function):
            return (nature(function, scope)[0] if scope.declared(text) else ""), None
    return "", None


def element(kind: Nature) -> Nature:
    """Return the nature of one element of `layers`; any other nature is its own."""
    return "layer" if kind == "layers" else kind


def _of_let(symbol: Symbol) -> Nature:
    """Return the nature of a `let`: `let c = chat` is a scenario. Only one step is followed, so cycles are harmless."""
    if isinstance(symbol.item, tree.Let) and isinstance(symbol.item.value, tree.Name):
        other = Scope(symbol.file).declared(symbol.item.value.text)
        return nature_of(other) if other is not None else ""
    return ""


def member_of_file(file: Declared, name: str) -> Declared | None:
    """Return the meaning of `lib.name` for a file used `as lib`."""
    target = file.symbol.target if file.symbol is not None else None
    symbol = target.names.get(name) if target is not None else None
    return declared(symbol) if isinstance(symbol, Symbol) else None


def members(kind: Nature, meaning: Declared | Word | None) -> dict[str, Declared | Word]:
    """Return the names that can follow the dot behind a thing of this nature."""
    match kind:
        case "layers":
            return {n: Word(n, "space", d) for n, d in words.SUB_BLOCKS.items()}
        case "layer":
            return {n: Word(n, "space", d, kind) for n, d in words.LAYER_FACTS.items()}
        case "attention" | "ffn":
            return {n: Word(n, "fact", d, kind) for n, d in words.SUB_BLOCK_FACTS[kind].items()}
        case "scenario":
            metrics: dict[str, Declared | Word] = {
                n: Word(n, "metric", m.doc, _name(meaning)) for n, m in words.METRICS.items()
            }
            return metrics | {n: Word(n, "fact", d, kind) for n, d in words.SCENARIO_FACTS.items()}
        case "parent":
            return {n: Word(n, "fact", d, kind) for n, d in PARENT_FACTS.items()}
        case "hardware":
            return {n: Word(n, "fact", d, kind) for n, d in HARDWARE_FACTS.items()}
        case "file" if isinstance(meaning, Declared) and meaning.symbol and meaning.symbol.target:
            found = meaning.symbol.target.names
            return {n: declared(s) for n, s in found.items() if isinstance(s, Symbol)}
    return {}


def _name(meaning: Declared | Word | None) -> str:
    return meaning.name if meaning is not None else ""
