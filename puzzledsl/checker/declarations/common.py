"""Parts that the lowering of every kind of declaration reads: head, target, the call on its right, the statements of its body."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, Literal

from puzzledsl.alternatives.alternative import ENDS, SUB_BLOCKS
from puzzledsl.base.diagnostics import Args, Fix, Span
from puzzledsl.base.frozen import Record
from puzzledsl.base.settings import REQUIRED, Kind
from puzzledsl.base.units import Quantity
from puzzledsl.checker import errors
from puzzledsl.checker.context import Context, Lower, Refused
from puzzledsl.checker.expressions import settings as reading
from puzzledsl.checker.expressions import values
from puzzledsl.checker.expressions.settings import Entry, Settings
from puzzledsl.checker.expressions.values import Scope, SpaceInfo, Symbol, Value
from puzzledsl.checker.names.words import read_ref
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import fixed_params
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree

Need = Literal["needed", "allowed", "none"]


class Declared(Record, eq=False):
    """A declaration that is being lowered."""

    ctx: Context
    symbol: Symbol
    of: Symbol | None = None  # the declaration after its `of` or `on`

    @property
    def decl(self) -> tree.Decl:
        """The tree of the declaration."""
        assert isinstance(self.symbol.item, tree.Decl)
        return self.symbol.item

    @property
    def kind(self) -> Kind:
        """Its kind."""
        return KINDS[self.symbol.kind]

    @property
    def thing(self) -> str:
        """Its kind and name for diagnostics: ``bld `pieces` ``."""
        return f"{self.symbol.kind} `{self.symbol.name}`"

    @property
    def where(self) -> nodes.Where:
        """The place of its head: its kind and name."""
        kind, name = self.decl.kind.span, self.symbol.span
        return self.ctx.where(Span(kind.file, kind.line, kind.column, name.end_line, name.end_column))

    def missing(self, what: str, help: str) -> None:
        """Report a part that it lacks, unless the parser lost something of it."""
        if not self.symbol.file.is_damaged(self.decl.span):
            self.ctx.missing(self.symbol.span, self.thing, what, help)

    def check_parts(self, value: Need | None = None, body: Need | None = None, example: str = "") -> None:
        """Report a missing or misplaced `= …` or `{ … }`, a misplaced `of …`. `value` and `body` override what the kind needs."""
        decl, kind = self.decl, self.kind
        value = value or ("none" if kind.value is None else "allowed" if kind.settings else "needed")
        required = kind.value is None or any(each.value is REQUIRED for each in kind.settings.values())
        body = body or ("needed" if required else "allowed" if kind.settings else "none")
        help = f"write `{example or kind.form}`"
        for what, part, need in (("`= …`", decl.value, value), ("`{ … }`", decl.body, body)):
            if part is None and need == "needed":
                self.missing(what, help)
            elif part and need == "none":
                at = part.span if isinstance(part, tree.Node) else part[0].span.start
                at = at if isinstance(part, tree.Node) else replace(at, end_column=at.column + 1)
                called = isinstance(decl.value, tree.Call) and part is decl.body
                inside = "; settings stand in the parentheses" if called else ""
                self.ctx.misplaced(at, what, self.thing, help + inside)
        if decl.target is not None and not kind.targets:
            self.ctx.misplaced(decl.target.span, f"`{decl.preposition}`", self.thing)

    def target(self, *kinds: str) -> Symbol | None:
        """Return the declaration after `of` or `on`; None, reported, if it is wrong. `kinds`: those allowed, if not the usual."""
        ctx, symbol, decl, preposition = self.ctx, self.symbol, self.decl, self.kind.preposition
        kinds, named = kinds or self.kind.targets, decl.target
        if named is None:
            if isinstance(decl.value, tree.Name) and symbol.kind in ("search", "bld", "uptrain"):
                named = decl.value  # `= x` for `of x` is reported
            elif not symbol.file.is_damaged(decl.kind.span):
                known = [s.name for s in symbol.file.symbols(*kinds) if s is not symbol]
                wanted = f"`{preposition}` {' or '.join(values.article(k) for k in kinds)}"
                help = f"write `{symbol.kind} {symbol.name} {preposition} {known[-1] if known else '…'}`"
                ctx.missing(symbol.span, self.thing, wanted, help)
        elif decl.preposition != preposition:
            help = f"write `{preposition} {ctx.source(named.span)}`"
            gap = ctx.gap(symbol.span, named.span, decl.preposition or "")
            fixes = [] if gap is None else [Fix.replace(gap, f" {preposition} ", help, safe=False)]
            said: Args = {"what": f"`{decl.preposition}`", "where": self.thing, "help": help, "fixes": fixes}
            ctx.refuse(errors.Misplaced(named.span, **said))
        return None if named is None else ctx.attempt(read_ref, ctx, named, Scope(symbol.file), kinds)

    def head(self) -> dict[str, Any]:
        """Return the fields that its head gives: name, comment, place, and the name of what it builds on."""
        found: dict[str, Any] = {"name": self.ctx.name_of(self.symbol), "doc": self.decl.doc}
        if field := self.kind.of:
            found[field] = "" if self.of is None else self.ctx.name_of(self.of)
        return {**found, "where": self.where}

    def body(self) -> tuple[Settings, dict[str, tree.Section]]:
        """Return the settings and sections of its body."""
        found = Settings(self.ctx, self.thing, self.symbol.span, self.kind.settings)
        scope = self.ctx.scopes[self.symbol] = Scope(self.symbol.file).inner()
        sections = from_body(found, self.decl, scope, tuple(self.kind.sections))
        found.quiet_about_missing |= self.decl.body is None
        return found, sections

    def section(self, name: str, section: tree.Section | None, scope: Scope | None = None) -> Settings:
        """Return the settings of its section `name`; `section` is None if it is not written. Its `let`s hold inside it alone."""
        inner, place = ((scope or Scope(self.symbol.file)).inner(), section.name if section else self.symbol)
        found = Settings(self.ctx, f"`{name}`", place.span, self.kind.sections[name].settings)
        if section is not None:
            from_body(found, section, inner)
        return found

    def call(self) -> values.Constructed:
        """Return the call right of its `=`. Refuse a declaration without one."""
        if self.decl.value is None or self.kind.value is None:
            raise Refused
        return reading.read_call(self.ctx, self.decl.value, Scope(self.symbol.file), self.kind.value)

    def arguments(self, call: values.Constructed) -> Settings:
        """Return the arguments of the call right of its `=`."""
        assert self.kind.value is not None
        return reading.from_call(self.ctx, call, self.kind.value.calls[call.name])

    def tasks(self) -> tuple[str, ...]:
        """Return the files of the `tasks(…)` right of its `=`; empty if there is no such call or it is wrong."""
        call = self.ctx.attempt(self.call)
        if call is None:
            return ()
        files = self.arguments(call)
        files.need_all()
        return tuple(files.read("path"))

    def only_data(self, settings: Settings, required: bool) -> str | None:
        """Return the name of the data set in `data`, or the file's only one, or None. `required`: report if there are several."""
        if settings.has("data"):
            found = settings.symbol("data")
        else:
            known = self.symbol.file.symbols("data")
            found = known[0] if len(known) == 1 else None
            if len(known) > 1 and required:
                listed = ", ".join(f"`{s.name}`" for s in known)
                self.missing("`data`", f"write `data = {known[0].name}`; there are {listed}")
        return None if found is None else self.ctx.name_of(found)

    def scope_about(self, info: SpaceInfo) -> Scope:
        """Return the scope, with `layers`, `attention` and so on, of a declaration about a space. Record both in the context."""
        self.ctx.infos[self.symbol] = info
        one, layers = Fraction(1), info.all_layers
        active: list[values.TermKey] = [("fact", p, "active_params", i) for p in SUB_BLOCKS for i in layers]
        names: dict[str, Value] = {
            "layers": values.Layers(info, layers),
            **{site: values.SubBlocks(info, site, layers) for site in SUB_BLOCKS},
            **{site: values.ModelEnd(info, site) for site in ENDS},
            "params": values.Symbolic({("params",): one}),
            "active_params": values.Symbolic(
                dict.fromkeys(active, one), Fraction(fixed_params(info.shape)), space=info
            ),
        }
        scope = self.ctx.scopes[self.symbol] = Scope(self.symbol.file).inner(names)
        return scope


def lowering(read: Callable[[Declared], object]) -> Lower:
    """Return a lowering that checks a declaration's parts and its `of`, and calls `read`. It gives None if `of` is wrong."""

    def lower(ctx: Context, symbol: Symbol) -> object:
        declared = Declared(ctx, symbol)
        declared.check_parts()
        of = declared.target() if declared.kind.targets else None
        node = read(replace(declared, of=of))
        return None if declared.kind.targets and of is None else node

    return lower


def space_info(ctx: Context, space: Symbol) -> SpaceInfo | None:
    """Return what is known of a declared space, a guess if its parent is unknown; None if lowering it recorded nothing."""
    ctx.lower(space, nodes.Space)
    return ctx.infos.get(space)


def from_body(
    found: Settings, decl: tree.Decl | tree.Section, scope: Scope, names: Sequence[str] = ()
) -> dict[str, tree.Section]:
    """Enter a body's settings in `found`, its `let`s in `scope`; return its sections among `names`. Report other statements."""
    ctx, thing, table = found.ctx, found.thing, found.table
    found.quiet_about_missing = scope.file.is_damaged(decl.span)
    targets = (s.target for s in decl.body or () if isinstance(s, tree.Assign))
    found.given = frozenset(target.text for target in targets if isinstance(target, tree.Name))
    parts: dict[str, tree.Section] = {}
    for statement in decl.body or ():
        match statement:
            case tree.Assign(target=tree.Name(text=key) as name, op="=") if key in names:
                help = f"`{key}` is a section: write `{key} {{ … }}`"
                ctx.report(errors.UnknownKey(name.span, thing=thing, name=key, help=help))
            case tree.Assign(target=tree.Name() as name, op="=", value=value):
                assert not isinstance(value, tree.Pattern | tree.PatternChoice)
                reading.put(found, name, Entry(value, scope, statement.span), tuple(table), names)
            case tree.Section(name=name):
                meant = name.text if name.text in names else None
                meant = meant or reading.report_unknown_key(found, name, (*names, *table))
                if meant in parts:
                    ctx.report(errors.DuplicateKey(name.span, name=meant))
                if meant in names:
                    parts.setdefault(str(meant), statement)
            case _:
                shared_statement(ctx, statement, scope, thing)
    return parts


def shared_statement(ctx: Context, statement: tree.Stmt, scope: Scope, thing: str) -> None:
    """Read a `let` or `assert`, which every body may have; report another statement, which is in the wrong place."""
    match statement:
        case tree.Let(name=name):  # visible to the statements after it
            if name.text in scope.names:
                ctx.report(errors.DuplicateName(name.span, name=name.text))
            scope.names[name.text] = ctx.value(statement.value, scope)
        case tree.Assert():
            check_assert(ctx, statement, scope)
        case _:
            misplaced(ctx, statement, thing)


def misplaced(ctx: Context, statement: tree.Stmt, thing: str) -> None:
    """Report a statement that the body of `thing` cannot have, unless a syntax error may have put it there."""
    if ctx.file_of(statement.span).is_damaged(statement.span):
        return
    span, help = statement.span, ""
    if isinstance(statement, tree.Assign):
        span, plain = statement.target.span, statement.op == "="
        what = f"`{ctx.source(span)}`" if plain else f"`{statement.op}`"
        if not plain or not isinstance(statement.target, tree.Name):
            help = "layers are edited in a `space`"
    elif isinstance(statement, tree.ForAll | tree.Require | tree.Prefer | tree.Objective | tree.Solutions):
        word, help = type(statement).__name__.lower(), "it belongs to a `search`"
        what = {"forall": "`for`", "objective": "a goal"}.get(word, f"`{word}`")
    else:
        what = "a section" if isinstance(statement, tree.Section) else "this"
    if span.end_line != span.line:  # its first few columns
        span = Span(span.file, span.line, span.column, span.line, span.column + 3)
    ctx.misplaced(span, what, thing, help)


def check_assert(ctx: Context, statement: tree.Assert, scope: Scope) -> None:
    """Evaluate an assertion and report it where it is false, or not known before the search."""
    value, span = ctx.value(statement.condition, scope), statement.condition.span
    match value:
        case values.Poison() | values.Boolean(value=True):
            return
        case values.Boolean():
            notes = [f"because {statement.because.value}"] if statement.because else []
            span, label = _failing(ctx, statement.condition, scope)
            ctx.report(errors.AssertionFails(span, label, notes=notes))
        case values.Conjunction() | values.Formula() | values.Matches():
            help = "write `require` in a search instead"
            ctx.report(errors.NotConstant(span, what="an assertion", got="this", help=help))
        case _:
            ctx.wrong(span, "an assertion", "true or false", value)


def _failing(ctx: Context, condition: tree.Expr, scope: Scope) -> tuple[Span, str]:
    """Return the span of the first part of an `and` that is false, and a label with the values of its sides."""
    while isinstance(condition, tree.Binary) and condition.op == "and":
        left = ctx.value(condition.left, scope)
        condition = condition.right if left == values.Boolean(True) else condition.left
    if not isinstance(condition, tree.Compare):
        return condition.span, "this is false"
    parts = []
    for operand in condition.operands:
        text, value = ctx.source(operand.span), ctx.value(operand, scope)
        shown = {values.Text: '"{0.value}"', Quantity: "{0}"}.get(type(value), "").format(value)
        if isinstance(value, values.Boolean):
            shown = str(value.value).lower()
        if shown and shown != text:
            parts.append(f"`{text}` is {shown}")
    return condition.span, ", ".join(parts)
