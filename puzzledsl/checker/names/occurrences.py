"""Occurrences: every name in a file with its meaning there, found without evaluation, for editors, lints and renames.

So a program with mistakes has all of them, too. A local name comes before a file's, and a file's before a word of the language;
but where only words of a closed list may stand (`solver = cpsat`), a word of that list comes before any declared name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import Any, Literal

from puzzledsl.alternatives.alternative import SUB_BLOCKS
from puzzledsl.base.diagnostics import Span
from puzzledsl.base.frozen import Record
from puzzledsl.base.settings import Call, Kind, Section, Setting
from puzzledsl.checker.expressions.values import SourceFile, Symbol
from puzzledsl.checker.names import names as scopes
from puzzledsl.checker.names.names import POISON, LanguageWord, Meaning, NameScope, Type, Typed
from puzzledsl.language import words
from puzzledsl.language.kinds import KINDS, PROFILE, alternatives_of, pattern_fields
from puzzledsl.syntax import tree

Explained = Call | Kind | Section | Setting | words.Measure
ANY = Setting("")
"""A setting that takes any value."""
NOTHING: Typed = (None, "")
GapRole = Literal["value", "member", "pattern", "statement", "type", "import", "target"]
CURSOR = "pzl__cursor"
"""The name that an editor writes where something is missing, to see what the place takes."""


class Occurrence(Record, eq=False):
    """A name at a place. `symbol` is its meaning, None if unknown; `node` the tree that it names; `setting` what it fills."""

    span: Span
    name: str
    symbol: Meaning | None
    type: Type
    role: Literal["declares", "uses"]
    node: tree.Node
    item: tree.Item
    setting: Setting

    @property
    def within(self) -> str:
        """The name of the declaration that it stands in; empty in a `use` or `assert`."""
        return "" if isinstance(self.item, tree.Use | tree.Assert) else self.item.name.text

    def means(self, symbol: Symbol) -> bool:
        """Return True if the name means this symbol, or the same declaration as another check has found it."""
        return isinstance(self.symbol, Symbol) and self.symbol.place == symbol.place


class Gap(Record):
    """The place of a missing name. `before`: of a `member`, what its dot follows; of a `pattern`, its sub-block as the type.

    `arguments`: those that the call around it can have, if the name is all of an argument; else none.
    """

    role: GapRole
    scope: NameScope
    setting: Setting = ANY
    arguments: Mapping[str, Setting] = field(default_factory=dict)
    before: Typed = NOTHING
    kind: str = ""
    section: str = ""
    node: tree.Node | None = None


@lru_cache(maxsize=16)
def occurrences(file: SourceFile) -> tuple[Occurrence, ...]:
    """Return every name of a file, in the order of the source."""
    resolver = _Resolver(file)
    for item in file.module.items:
        resolver.read(item)
    return tuple(sorted(resolver.found, key=attrgetter("span")))


def gap_of(file: SourceFile, item: tree.Item) -> Gap | None:
    """Return the place of the name CURSOR in `item`, which is read as an item of the file; None if CURSOR is not in it."""
    resolver = _Resolver(file)
    resolver.read(item)
    return resolver.gap


@dataclass(slots=True)
class _Resolver:
    file: SourceFile
    found: list[Occurrence] = field(default_factory=list)
    item: tree.Item = field(init=False)
    kind: str = ""
    section: str = ""
    calls: list[Mapping[str, Setting]] = field(default_factory=list)
    gap: Gap | None = None

    def add(self, name: tree.Name, symbol: Meaning | None, at: tree.Node | None = None, **more: Any) -> None:
        """Record a name and its meaning. `at` is the tree that it names, `more` are other fields of Occurrence."""
        facts: dict[str, Any] = {"type": "", "role": "uses", "setting": ANY} | more
        self.found.append(Occurrence(name.span, name.text, symbol, node=at or name, item=self.item, **facts))

    def mark(
        self, name: tree.Node, role: GapRole, scope: NameScope, *takes: Setting, before: Typed = NOTHING
    ) -> None:
        """Record the place of `name` as the gap if it is CURSOR. `takes`: the setting that it fills, if any."""
        if isinstance(name, tree.Name) and name.text == CURSOR:
            (setting,), arguments = takes or (ANY,), self.calls[-1] if self.calls else {}
            self.gap = Gap(role, scope, setting, arguments, before, self.kind, self.section, self.item)

    def read(self, item: tree.Item) -> None:
        """Record the names of one item."""
        self.item, self.kind, self.section = item, "", ""
        scope = NameScope(self.file)
        match item:
            case tree.Use(names=names, alias=alias):
                for name in names:
                    self.add(name, scope.declared(name.text))
                    self.mark(name, "import", scope)
                if alias is not None:
                    self.declare(alias, item)
            case tree.Param(type=kind, words=listed):
                self.declare(item.name, item)
                self.mark(kind, "type", scope)
                if not listed:
                    self.add(kind, _word(kind, "type", words.TYPES.get(kind.text)))
                for word in listed:
                    self.add(word, LanguageWord(word.text, "word", f"A value of `{item.name.text}`."))
                if item.default is not None:
                    self.visit(item.default, scope, Setting("", words=tuple(word.text for word in listed)))
            case tree.Fn() | tree.Let():
                self.declare(item.name, item)
                for parameter in item.parameters if isinstance(item, tree.Fn) else ():
                    self.bind(parameter, "parameter", "", scope, item)
                self.visit(item.value, scope)
            case tree.Assert():
                self.visit(item.condition, scope)
            case tree.Decl():
                self.declaration(item, scope)

    def declare(self, name: tree.Name, item: tree.Item) -> None:
        """Record the name of an item. An item whose name another has taken gets a symbol of its own."""
        symbol = self.file.names.get(name.text)
        if not isinstance(symbol, Symbol) or symbol.item is not item:
            kind = item.kind.text if isinstance(item, tree.Decl) else type(item).__name__.lower()
            symbol = Symbol(name.text, kind, item, self.file, name.span)
        self.add(name, symbol, item, type=symbol.kind, role="declares")

    def bind(self, name: tree.Name, kind: str, type: Type, scope: NameScope, node: tree.Node) -> None:
        """Record a local name, which `scope` sees from now on."""
        item = node if isinstance(node, tree.Let) else self.item
        symbol = Symbol(name.text, kind, item, self.file, name.span)
        scope.names[name.text] = symbol, type
        self.add(name, symbol, node, type=kind, role="declares")

    def declaration(self, decl: tree.Decl, scope: NameScope) -> None:
        self.kind, kind = decl.kind.text, KINDS.get(decl.kind.text)
        self.add(decl.kind, _word(decl.kind, "kind", kind))
        self.declare(decl.name, decl)
        if decl.target is not None:
            self.visit(decl.target, scope)
            if kind is not None:
                self.mark(decl.target, "target", scope, Setting("", kinds=kind.targets))
        inner = scope.inner(dict(scopes.SPACE_NAMES) if kind is not None and kind.sees_space else None)
        if decl.value is not None:
            around = scope if kind is None or kind.settings else inner
            self.visit(decl.value, around, kind.value if kind and kind.value else ANY)
        for statement in decl.body or ():
            self.visit(statement, inner)

    def visit(self, node: tree.Node, scope: NameScope, setting: Setting = ANY) -> Typed:
        """Record the names of a part of an item, which fills `setting`; return its meaning, None if it has none, and its type."""
        match node:
            case tree.Name(text=text):
                symbol, type = self.meaning(text, scope, setting)
                self.add(node, symbol, type=type, setting=setting)
                self.mark(node, "value", scope, setting)
                return symbol, type
            case tree.Assign():
                self.assign(node, scope)
            case tree.Section(name=name):
                sections = KINDS[self.kind].sections if self.kind in KINDS else {}
                self.add(name, _word(name, "setting", sections.get(name.text), self.kind), node)
                self.section, inner = name.text, scope.inner()
                for statement in node.body:
                    self.visit(statement, inner)
                self.section = ""
            case tree.ForAll(domain=over) | tree.Comprehension(collection=over):
                type, inner = self.visit(over, scope)[1], scope.inner()
                self.bind(node.variable, "variable", "layer" if type == "layers" else type, inner, node)
                body = node.body if isinstance(node, tree.ForAll) else (node.element,)
                for part in filter(None, (node.where, *body)):
                    self.visit(part, inner)
            case tree.Let():
                type = self.visit(node.value, scope)[1]
                self.bind(node.name, "let", type, scope, node)
            case tree.Call():
                return None, self.call(node, scope, setting)
            case tree.Attribute(name=name):
                before = self.visit(node.target, scope)
                symbol, type = scopes.members(*before).get(name.text), ""
                if isinstance(symbol, Symbol):
                    type = "" if symbol.kind in scopes.VALUE_KINDS else symbol.kind
                elif symbol is not None and name.text in SUB_BLOCKS:
                    type = name.text
                self.add(name, symbol, node, type=type)
                self.mark(name, "member", scope, before=before)
                return symbol, type
            case tree.Cond():
                self.visit(node.condition, scope)
                self.visit(node.then, scope, setting)
                self.visit(node.otherwise, scope, setting)
            case tree.Is():
                self.patterns(node.pattern, scope, self.visit(node.subject, scope)[1])
            case tree.Compare():
                self.compare(node, scope)
            case tree.Index():
                type = self.visit(node.target, scope)[1]
                for each in node.items:
                    self.visit(each, scope)
                if node.where is not None:
                    inner = scope.inner({"index": (LanguageWord("index", "word", words.OTHER["index"]), "")})
                    self.visit(node.where, inner)
                return None, "layer" if type == "layers" else type
            case tree.Choice() | tree.Binary(op="+" | "*"):
                joins = isinstance(node, tree.Choice) or setting.sums or setting.kinds
                for part in tree.children(node):
                    self.visit(part, scope, setting if joins else ANY)
            case _:
                for part in tree.children(node):
                    self.visit(part, scope)
        return NOTHING

    def assign(self, statement: tree.Assign, scope: NameScope) -> None:
        target, value, own = statement.target, statement.value, KINDS.get(self.kind)
        table = {} if own is None else own.table(self.section) if self.section else own.settings
        setting, kind = ANY, ""
        if isinstance(target, tree.Name) and target.text in table:
            setting = table[target.text]
            word = _word(target, "setting", setting, self.section or self.kind)
            self.add(target, word, statement, setting=setting)
        else:
            kind = self.visit(target, scope)[1]
            if not isinstance(target, tree.Name):
                setting = alternatives_of(kind)
            self.mark(target, "statement", scope)
        if isinstance(value, tree.Pattern | tree.PatternChoice):
            self.patterns(value, scope, kind)
        else:
            self.visit(value, scope, setting)

    def meaning(self, text: str, scope: NameScope, setting: Setting) -> Typed:
        """Return the meaning and the type of a name that fills `setting`. The meaning is None if nothing has this name."""
        call = setting.calls.get(text)
        word = LanguageWord(text, "call", call.doc, call=call) if call else None
        if text in setting.words:
            return word or LanguageWord(text, "word", scopes.EXPLAINED.get(text, "")), ""
        known, unread = scope.find(text), self.file.names.get(text) == POISON
        symbol = known[0] if known is not None else None
        is_value = scope.local(text) is not None or getattr(symbol, "kind", "") in scopes.VALUE_KINDS
        if word is not None and not is_value and not unread:
            return word, ""
        if setting.bare and not is_value:
            return LanguageWord(text, "word"), ""
        if known is not None:
            return known
        return None if unread else scopes.language_word(text), ""

    def compare(self, node: tree.Compare, scope: NameScope) -> None:
        """Record the names of a comparison. A word that a parameter beside it lists, and nothing declares, is of that list."""
        listed: set[str] = set()
        for operand in node.operands:
            known = scope.declared(operand.text) if isinstance(operand, tree.Name) else None
            if known is not None and isinstance(known.item, tree.Param) and not scope.local(known.name):
                listed |= {word.text for word in known.item.words}
        for operand in node.operands:
            if isinstance(operand, tree.Name) and operand.text in listed and not scope.find(operand.text):
                self.add(operand, LanguageWord(operand.text, "word"))
            else:
                self.visit(operand, scope)

    def patterns(self, pattern: tree.Pattern | tree.PatternChoice, scope: NameScope, kind: Type) -> None:
        for each in pattern.options if isinstance(pattern, tree.PatternChoice) else (pattern,):
            name, call = each.name, alternatives_of("").calls.get(each.name.text)
            self.mark(name, "pattern", scope, before=(None, kind))
            self.add(name, _word(name, "call", call), each, setting=alternatives_of(kind))
            tested = pattern_fields(call) if call else ()
            for part in each.fields:
                known = call.arguments[part.name.text] if call and part.name.text in tested else None
                self.add(part.name, _word(part.name, "setting", known, name.text))
                self.visit(part.value, scope, known or ANY)

    def call(self, node: tree.Call, scope: NameScope, setting: Setting) -> Type:
        """Record the names of a call; return the type of its value, such as `hardware` for a changed profile, or nothing."""
        if isinstance(node.function, tree.Name):
            callee, type = self.meaning(node.function.text, scope, setting)
            self.add(node.function, callee, node, type=type, setting=setting)
        else:
            callee, type = self.visit(node.function, scope)[0], ""
        known = _arguments(callee, scope)
        call = callee.call if isinstance(callee, LanguageWord) else None
        for index, argument in enumerate(node.arguments):
            name, value = argument.name, argument.value
            inner = known.get(name.text) if name is not None else call.argument(None, index) if call else None
            if name is not None and call is not None and call.named_by:
                self.visit(name, scope, Setting("", kinds=call.named_by))
            elif name is not None:
                self.argument(name, callee, inner)
            is_empty = isinstance(value, tree.Name) and value.text == CURSOR and name is None
            self.calls.append(known if is_empty else {})
            self.visit(value, scope, inner or ANY)
            self.calls.pop()
        return type

    def argument(self, name: tree.Name, callee: Meaning | None, setting: Setting | None) -> None:
        """Record the name of an argument: a parameter if `callee` is a `fn`, else a setting."""
        if isinstance(callee, Symbol) and isinstance(callee.item, tree.Fn):
            named = (p for p in callee.item.parameters if p.text == name.text)
            of = (Symbol(p.text, "parameter", callee.item, callee.file, p.span) for p in named)
            self.add(name, next(of, None))
        else:
            owner = callee.name if isinstance(callee, LanguageWord) else "hardware"
            self.add(name, _word(name, "setting", setting, owner))


def _word(
    name: tree.Name, category: scopes.Category, known: Explained | None, owner: str = ""
) -> LanguageWord | None:
    """Return a name as a word of the language that `known` explains; None if that is None. `owner`: what it belongs to."""
    call = known if isinstance(known, Call) else None
    return LanguageWord(name.text, category, known.doc, owner, call) if known is not None else None


def _arguments(callee: Meaning | None, scope: NameScope) -> Mapping[str, Setting]:
    """Return the arguments of what is called, each with the setting that it is; none if they are not known."""
    match callee:
        case LanguageWord(call=call) if call is not None:
            if not call.named_by:
                return call.arguments
            named = (symbol.name for symbol in scope.file.symbols(*call.named_by))
            return dict.fromkeys(named, Setting("Its weight."))
        case Symbol(kind="hardware"):
            return PROFILE
        case Symbol(item=tree.Fn(parameters=parameters)):
            return {parameter.text: ANY for parameter in parameters}
    return {}
