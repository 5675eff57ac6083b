"""Every name of a file with what it means: found by its place alone, so that it works in a program with mistakes.

The rules are the checker's: a local name before a file's, a file's before a word of the language; but a word of a closed
list where only these may stand (`solver = greedy`) is itself, whatever else is called so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from puzzledsl.base.settings import Call, Setting
from puzzledsl.checker.expressions.values import SourceFile, Symbol
from puzzledsl.language import calls, words
from puzzledsl.language.alternatives import ATTENTION, FFN, alternatives_of, pattern_fields
from puzzledsl.language.kinds import KINDS, PROFILE
from puzzledsl.server.meanings import Declared, Meaning, Occurrence, Word
from puzzledsl.server.paths import key_of
from puzzledsl.server.scopes import Nature, Scope, declared, element, member_of_file, members, nature
from puzzledsl.syntax import tree

_ANY = Setting("")


def bindings(file: SourceFile) -> list[Occurrence]:
    """Every name of a file, in the order of the source."""
    binder = _Binder(file, key_of(file.path))
    for item in file.module.items:
        binder.item(item)
    return sorted(binder.found, key=lambda o: o.span)


@dataclass(slots=True)
class _Binder:
    file: SourceFile
    key: str
    found: list[Occurrence] = field(default_factory=list)
    within: str = ""

    def add(self, name: tree.Name, meaning: Meaning | None, *, declares: bool = False) -> None:
        self.found.append(Occurrence(name.span, name.text, meaning, declares, self.within))

    # ------------------------------------------------------------ items

    def item(self, item: tree.Item) -> None:
        scope = Scope(self.file)
        self.within = ""
        match item:
            case tree.Use():
                self.use(item)
            case tree.Param():
                self.declare(item.name, item)
                self.param(item, scope)
            case tree.Fn():
                self.declare(item.name, item)
                inner = scope.inner()
                for parameter in item.parameters:
                    self.bind(parameter, "parameter", "", inner)
                self.expr(item.value, inner, _ANY)
            case tree.Let():
                self.declare(item.name, item)
                self.expr(item.value, scope, _ANY)
            case tree.Assert():
                self.expr(item.condition, scope, _ANY)
            case tree.Decl():
                self.decl(item, scope)

    def param(self, param: tree.Param, scope: Scope) -> None:
        known = words.TYPES.get(param.type.text)
        if not param.words:
            self.add(param.type, Word(param.type.text, "type", known.doc) if known else None)
        for word in param.words:
            self.add(word, Word(word.text, "word", f"A value of `{param.name.text}`."))
        if param.default is not None:
            self.expr(param.default, scope, Setting("", words=tuple(w.text for w in param.words)))

    def declare(self, name: tree.Name, item: tree.Item) -> None:
        """The name of a declaration at the top level. One whose name was taken is a declaration of its own."""
        self.within = name.text
        symbol = self.file.names.get(name.text)
        if isinstance(symbol, Symbol) and symbol.item is item:
            self.add(name, declared(symbol), declares=True)
        else:
            kind = item.kind.text if isinstance(item, tree.Decl) else type(item).__name__.lower()
            self.add(name, Declared(name.text, kind, self.key, name.span), declares=True)

    def use(self, use: tree.Use) -> None:
        for name in use.names:
            symbol = self.file.names.get(name.text)
            self.add(name, declared(symbol) if isinstance(symbol, Symbol) else None)
        if use.alias is not None:
            self.declare(use.alias, use)

    def bind(self, name: tree.Name, kind: str, nature: Nature, scope: Scope) -> None:
        """A local name, visible in `scope` from now on."""
        meaning = Declared(name.text, kind, self.key, name.span)
        scope.names[name.text] = meaning, nature
        self.add(name, meaning, declares=True)

    def decl(self, decl: tree.Decl, scope: Scope) -> None:
        kind = KINDS.get(decl.kind.text)
        self.add(decl.kind, Word(decl.kind.text, "kind", kind.doc) if kind else None)
        self.declare(decl.name, decl)
        if decl.target is not None:
            self.expr(decl.target, scope, _ANY)
        inner = scope.inner()
        if kind is not None and kind.sees_space:
            inner.see_space()
        if decl.value is not None:
            around = inner if decl.kind.text == "frontier" else scope
            self.expr(decl.value, around, kind.value if kind and kind.value else _ANY)
        for statement in decl.body or ():
            self.statement(statement, inner, decl.kind.text)

    # ------------------------------------------------------------ statements

    def statement(self, statement: tree.Stmt, scope: Scope, kind: str, section: str = "") -> None:
        match statement:
            case tree.Assign():
                self.assign(statement, scope, kind, section)
            case tree.Section(name=name):
                known = KINDS[kind].sections.get(name.text) if kind in KINDS else None
                self.add(name, Word(name.text, "setting", known.doc, kind) if known is not None else None)
                for inner in statement.body:
                    self.statement(inner, scope.inner(), kind, name.text)
            case tree.ForAll():
                self.expr(statement.domain, scope, _ANY)
                inner_scope = scope.inner()
                self.bind(
                    statement.variable, "variable", element(nature(statement.domain, scope)[0]), inner_scope
                )
                if statement.where is not None:
                    self.expr(statement.where, inner_scope, _ANY)
                for each in statement.body:
                    self.statement(each, inner_scope, kind)
            case tree.Require(condition=value) | tree.Prefer(condition=value) | tree.Assert(condition=value):
                self.expr(value, scope, _ANY)
            case tree.Objective(expression=value):
                self.expr(value, scope, _ANY)
            case tree.Solutions():
                self.expr(statement.count, scope, _ANY)
                if statement.apart is not None:
                    self.expr(statement.apart, scope, _ANY)
            case tree.Let():
                self.expr(statement.value, scope, _ANY)
                self.bind(statement.name, "let", nature(statement.value, scope)[0], scope)

    def assign(self, statement: tree.Assign, scope: Scope, kind: str, section: str) -> None:
        setting = _ANY
        if isinstance(statement.target, tree.Name):
            setting = self.key_of_setting(statement.target, scope, kind, section)
        else:
            self.expr(statement.target, scope, _ANY)
            setting = alternatives_of(nature(statement.target, scope)[0])
        value = statement.value
        if isinstance(value, tree.Pattern | tree.PatternChoice):
            for pattern in value.options if isinstance(value, tree.PatternChoice) else (value,):
                self.pattern(pattern, scope)
        else:
            self.expr(value, scope, setting)

    def key_of_setting(self, name: tree.Name, scope: Scope, kind: str, section: str) -> Setting:
        """Note the left side of `KEY = …`; what its right side may be."""
        known = KINDS.get(kind)
        setting = None if known is None else known.table(section).get(name.text)
        if setting is not None:
            self.add(name, Word(name.text, "setting", setting.doc, section or kind, setting=setting))
            return setting
        self.expr(name, scope, _ANY)
        return _ANY

    # ------------------------------------------------------------ expressions

    def expr(self, expr: tree.Expr, scope: Scope, setting: Setting) -> None:
        match expr:
            case tree.Name():
                self.add(expr, self.meaning(expr, scope, setting))
            case tree.Call():
                self.call(expr, scope, setting)
            case tree.Attribute():
                self.expr(expr.target, scope, _ANY)
                self.add(expr.name, self.member(expr, scope))
            case tree.Choice(options=parts):
                for part in parts:
                    self.expr(part, scope, setting)
            case tree.Cond():
                self.expr(expr.condition, scope, _ANY)
                self.expr(expr.then, scope, setting)
                self.expr(expr.otherwise, scope, setting)
            case tree.Binary():
                own = setting if setting.sums and expr.op in ("+", "*") else _ANY
                self.expr(expr.left, scope, own)
                self.expr(expr.right, scope, own)
            case tree.Is(pattern=pattern):
                self.expr(expr.subject, scope, _ANY)
                for each in pattern.options if isinstance(pattern, tree.PatternChoice) else (pattern,):
                    self.pattern(each, scope)
            case tree.Compare(operands=operands):
                self.compare(operands, scope)
            case tree.Index():
                self.index(expr, scope)
            case tree.Comprehension():
                self.comprehension(expr, scope)
            case _:
                for part in _parts(expr):
                    self.expr(part, scope, _ANY)

    def compare(self, operands: tuple[tree.Expr, ...], scope: Scope) -> None:
        """Beside a parameter that lists its words, a name that nothing else has is one of them."""
        listed = {word for o in operands if isinstance(o, tree.Name) for word in _listed(scope, o.text)}
        for operand in operands:
            known = isinstance(operand, tree.Name) and scope.find(operand.text) is not None
            if isinstance(operand, tree.Name) and not known and operand.text in listed:
                self.add(operand, Word(operand.text, "word"))
            else:
                self.expr(operand, scope, _ANY)

    def meaning(self, name: tree.Name, scope: Scope, setting: Setting) -> Meaning | None:
        text = name.text
        if text in setting.words:
            call = setting.calls.get(text)
            return Word(text, "call" if call else "word", call.doc if call else _explain(text), call=call)
        local = scope.local(text)
        symbol = scope.declared(text)
        is_value = local is not None or (symbol is not None and symbol.kind in ("let", "param", "fn"))
        if text in setting.calls and not is_value and not scope.is_unknown(text):
            return Word(text, "call", setting.calls[text].doc, call=setting.calls[text])
        if setting.bare and not is_value:
            return Word(text, "word")
        if local is not None:
            return local[0]
        if symbol is not None:
            return symbol
        return None if scope.is_unknown(text) else language_word(text)

    def call(self, expr: tree.Call, scope: Scope, setting: Setting) -> None:
        callee: Meaning | None = None
        if isinstance(expr.function, tree.Name):
            callee = self.meaning(expr.function, scope, setting)
            self.add(expr.function, callee)
        else:
            self.expr(expr.function, scope, _ANY)
            callee = nature(expr.function, scope)[1]
        for place, argument in enumerate(expr.arguments):
            self.argument(argument, place, callee, scope)

    def argument(self, argument: tree.Argument, place: int, callee: Meaning | None, scope: Scope) -> None:
        name = argument.name
        setting: Setting | None = None
        meaning: Meaning | None = None
        match callee:
            case Word(call=Call() as call):
                setting = call.argument(name.text if name else None, place)
                owner = callee.name
            case Declared(kind="hardware"):
                setting = PROFILE.get(name.text) if name else None
                owner = "hardware"
            case Declared(kind="fn", symbol=symbol) if name and symbol and isinstance(symbol.item, tree.Fn):
                meaning = next(
                    (
                        Declared(p.text, "parameter", callee.key, p.span)
                        for p in symbol.item.parameters
                        if p.text == name.text
                    ),
                    None,
                )
                owner = callee.name
            case _:
                owner = ""
        if isinstance(callee, Word) and callee.call is not None and callee.call.named_by and name is not None:
            self.expr(name, scope, Setting("", kinds=callee.call.named_by))
        elif name is not None:
            if setting is not None:
                meaning = Word(name.text, "setting", setting.doc, owner, setting=setting)
            self.add(name, meaning)
        self.expr(argument.value, scope, setting or _ANY)

    def member(self, expr: tree.Attribute, scope: Scope) -> Meaning | None:
        kind, meaning = nature(expr.target, scope)
        if kind == "file" and isinstance(meaning, Declared):
            return member_of_file(meaning, expr.name.text)
        return members(kind, meaning).get(expr.name.text)

    def index(self, expr: tree.Index, scope: Scope) -> None:
        self.expr(expr.target, scope, _ANY)
        for item in expr.items:
            self.expr(item, scope, _ANY)
        if expr.where is not None:
            inner = scope.inner()
            inner.names["index"] = Word("index", "word", words.OTHER["index"]), ""
            self.expr(expr.where, inner, _ANY)

    def comprehension(self, expr: tree.Comprehension, scope: Scope) -> None:
        self.expr(expr.collection, scope, _ANY)
        inner = scope.inner()
        self.bind(expr.variable, "variable", element(nature(expr.collection, scope)[0]), inner)
        self.expr(expr.element, inner, _ANY)
        if expr.where is not None:
            self.expr(expr.where, inner, _ANY)

    def pattern(self, pattern: tree.Pattern | tree.PatternChoice, scope: Scope) -> None:
        if isinstance(pattern, tree.PatternChoice):
            for option in pattern.options:
                self.pattern(option, scope)
            return
        name = pattern.name
        call = ATTENTION.get(name.text) or FFN.get(name.text)
        self.add(name, Word(name.text, "call", call.doc, call=call) if call else None)
        for part in pattern.fields:
            known = (
                call.arguments.get(part.name.text)
                if call and part.name.text in pattern_fields(name.text)
                else None
            )
            self.add(
                part.name,
                Word(part.name.text, "setting", known.doc, name.text, setting=known) if known else None,
            )
            self.expr(part.value, scope, known or _ANY)


def _listed(scope: Scope, name: str) -> tuple[str, ...]:
    """The words that a parameter of this name lists."""
    found = scope.declared(name) if scope.local(name) is None else None
    item = found.symbol.item if found is not None and found.symbol is not None else None
    return tuple(w.text for w in item.words) if isinstance(item, tree.Param) else ()


def language_word(text: str) -> Word | None:
    """The word of the language that a name is where nothing is declared so."""
    if text in words.FUNCTIONS:
        return Word(text, "function", words.FUNCTIONS[text])
    if text in calls.ANYWHERE:
        call = calls.ANYWHERE[text]
        return Word(text, "call", call.doc, call=call)
    explained = _explain(text)
    return Word(text, "word", explained) if explained else None


def _explain(text: str) -> str:
    for table in (words.VALUES, words.DTYPES, words.OTHER, words.SUB_BLOCKS):
        if text in table:
            return table[text]
    return ""


def _parts(expr: tree.Expr) -> tuple[tree.Expr, ...]:
    """The parts of an expression that has no names of its own."""
    match expr:
        case tree.ListExpr(items=items):
            return items
        case tree.Unary(operand=operand):
            return (operand,)
        case tree.In(member=member, collection=collection):
            return member, collection
        case tree.Range():
            return tuple(e for e in (expr.start, expr.stop, expr.step) if e is not None)
        case tree.Arrow(left=left, right=right) | tree.SameAs(left=left, right=right):
            return left, right
        case _:
            return ()
