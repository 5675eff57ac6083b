"""`space w of p { … }`, of another space, and `used_by(search, top: N)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.base.diagnostics import Label
from puzzledsl.base.suggest import closest
from puzzledsl.checker.assertions import check_assert
from puzzledsl.checker.bodies import define, misplaced
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import (
    arguments_of,
    call_of,
    check_parts,
    declaration,
    head,
    scope_about,
    section_of,
    space_info,
    target,
    thing,
)
from puzzledsl.checker.diagnostics import name_errors, space_errors
from puzzledsl.checker.expressions.loops import iterate, passes
from puzzledsl.checker.expressions.values import Scope, Symbol
from puzzledsl.checker.spaces.choices import ChoiceReader
from puzzledsl.checker.spaces.overrides import Overrides
from puzzledsl.checker.spaces.space_info import SpaceInfo, all_parent, guessed
from puzzledsl.ir import nodes
from puzzledsl.language.alternatives import INITIALISERS
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree

CHOICES, SECTIONS = KINDS["space"].settings, KINDS["space"].sections
_HAS = "it has " + ", ".join(f"`{key}`" for key in CHOICES) + ", `layers[…]` and `init { … }`"
_INIT = (
    "`init` is a section, and weights are made from the parent's: "
    f"`init {{ {', '.join(f'{name} = {words[-1]}' for name, words in INITIALISERS.items())} }}`"
)
_HELP = {
    "hidden": "the residual stream keeps the parent's width; write narrower FFNs, `ffn = mlp(width: 75% | 50%)`,"
    " or let layers go: `attention = parent | noop`"
}


def lower_space(ctx: Context, symbol: Symbol) -> nodes.Space | None:
    """A space with the choice of every layer; what is known of it goes to `ctx.infos`."""
    decl = declaration(symbol)
    if decl.value is not None:
        return _used_by(ctx, symbol)
    check_parts(ctx, symbol, "none", "needed")
    base = target(ctx, symbol)
    info = _start(ctx, symbol, base) if base is not None else None
    if info is None:
        info = guessed(ctx.name_of(symbol))
    info.incomplete |= symbol.file.is_damaged(decl.span)
    scope = scope_about(ctx, symbol, info)
    node = _SpaceBody(ctx, symbol, info, scope).lower(ctx.lowered.get(base) if base else None)
    return None if info.guessed else node


def _start(ctx: Context, symbol: Symbol, base: Symbol) -> SpaceInfo | None:
    """A space that begins as all-parent, or as another space."""
    if base.kind == "space":
        other = space_info(ctx, base)
        return None if other is None else other.derived(ctx.name_of(symbol))
    parent = ctx.lower(base, nodes.Parent)
    if parent is None:
        return None
    return all_parent(ctx.name_of(symbol), base.name, parent.name, parent.shape)


class _SpaceBody:
    """Reads a space's statements: choices first, then overrides and assertions in order."""

    def __init__(self, ctx: Context, symbol: Symbol, info: SpaceInfo, scope: Scope) -> None:
        self.ctx, self.symbol, self.info, self.scope = ctx, symbol, info, scope
        self.reader = ChoiceReader(ctx, info)
        self.overrides = Overrides(ctx, info, self.reader)
        self.choices: dict[str, tree.Assign] = {}
        self.init: tree.Section | None = None

    def lower(self, base: object) -> nodes.Space:
        body = declaration(self.symbol).body or ()
        if isinstance(base, nodes.Space) and base.used_by is not None:
            body = self._only_init(body, base)
        rest = [statement for statement in body if not self._is_choice(statement)]
        inherited = isinstance(base, nodes.Space)
        if (
            not self.choices
            and not self.info.guessed
            and not inherited
            and not self.symbol.file.is_damaged(declaration(self.symbol).span)
        ):
            what = "`attention` or `ffn`"
            help = f"write `{KINDS['space'].form}`"
            self.ctx.report(
                name_errors.MissingPart(self.symbol.span, thing=thing(self.symbol), what=what, help=help)
            )
        for statement in rest:
            self._statement(statement, self.scope)
        self.overrides.report_empty()
        init = base.init if isinstance(base, nodes.Space) else nodes.Initialisers()
        used_by = base.used_by if isinstance(base, nodes.Space) else None
        return self._node(init if self.init is None else self._initialisers(self.init, init), used_by)

    def _only_init(self, body: Sequence[tree.Stmt], base: nodes.Space) -> tuple[tree.Stmt, ...]:
        """Report the edits of a narrowed space: its layers are not known yet. Return the other statements."""
        kept: list[tree.Stmt] = []
        for statement in body:
            if isinstance(statement, tree.Section | tree.Assert | tree.Let):
                kept.append(statement)
                continue
            what = f"editing the layers of `{base.name}`, which a search decides,"
            help = "edit the space that the search is of; here, write `init { … }` alone"
            where_ = thing(self.symbol)
            self.ctx.report(name_errors.Misplaced(statement.span, what=what, where=where_, help=help))
        return tuple(kept)

    # ------------------------------------------------------------ statements

    def _is_choice(self, statement: tree.Stmt) -> bool:
        """Read `attention = …` and `ffn = …` (and `let`s, which these may use); false for what comes later."""
        match statement:
            case tree.Let():
                define(self.ctx, statement, self.scope)
                return True
            case tree.Assign(target=tree.Name(text=name) as target, op="=") if name != "layers":
                self._choice(statement, target)
                return True
        return False

    def _choice(self, statement: tree.Assign, target: tree.Name) -> None:
        key = target.text
        if key not in CHOICES:
            near = closest(key, (*CHOICES, "layers"))
            help = _INIT if key == "init" else _HELP.get(key, _HAS)
            error = name_errors.UnknownKey(
                target.span, thing=thing(self.symbol), name=key, near=near, help=help
            )
            self.ctx.report(error)
            if near not in CHOICES:
                return
            key = str(near)
        if key in self.choices:
            label = Label(self.choices[key].target.span, "first set here")
            help = "join both with `|`, or edit layers: `layers[…].attention |= …`"
            self.ctx.report(name_errors.DuplicateKey(target.span, name=key, secondary=[label], help=help))
            return
        self.choices[key] = statement
        value = statement.value
        assert not isinstance(value, tree.Pattern | tree.PatternChoice)
        part = cast(SubBlock, key)
        found = self.reader.alternatives(value, self.scope, part, self.info.all_layers, each=False)
        self.info.choose(part, [found[layer] for layer in self.info.all_layers])

    def _for(self, statement: tree.ForAll, scope: Scope) -> None:
        """Each instance of a `for` with its variable bound; stops at the first with a mistake."""
        ctx = self.ctx
        if isinstance(statement.domain, tree.BadExpr):
            return
        before = len(ctx.sink.items)
        for item in iterate(ctx, ctx.value(statement.domain, scope), statement.domain.span):
            inner = scope.inner({statement.variable.text: item})
            if passes(ctx, statement.where, inner):
                for each in statement.body:
                    self._statement(each, inner)
            if len(ctx.sink.items) > before:
                return

    def _statement(self, statement: tree.Stmt, scope: Scope) -> None:
        match statement:
            case tree.ForAll():
                self._for(statement, scope)
            case tree.Let() if scope is not self.scope:
                define(self.ctx, statement, scope)
            case tree.Assign(target=tree.Name(text=name)) if name not in (*CHOICES, "layers"):
                near = closest(name, (*CHOICES, "layers"))
                error = name_errors.UnknownKey(
                    statement.target.span, thing=thing(self.symbol), name=name, near=near
                )
                self.ctx.report(error)
            case tree.Assign():
                self.overrides.apply(statement, scope)
            case tree.Assert():
                check_assert(self.ctx, statement, scope)
            case tree.Section(name=tree.Name(text="init")):
                if self.init is not None:
                    self.ctx.report(name_errors.DuplicateKey(statement.name.span, name="init"))
                self.init = statement
            case tree.Section(name=name):
                near = closest(name.text, SECTIONS)
                error = name_errors.UnknownKey(
                    name.span, thing=thing(self.symbol), name=name.text, near=near, help="it has `init { … }`"
                )
                self.ctx.report(error)
            case _:
                misplaced(self.ctx, statement, thing(self.symbol))

    def _initialisers(self, section: tree.Section, old: nodes.Initialisers) -> nodes.Initialisers:
        settings = section_of(self.ctx, self.symbol, "init", section, self.scope)
        found = {key: settings.read(key, getattr(old, key)) for key in settings.table}
        return nodes.Initialisers(**found)

    def _node(self, init: nodes.Initialisers, used_by: nodes.UsedBy | None) -> nodes.Space:
        rows: dict[tuple[int, ...], nodes.LayerChoice] = {}
        layers: list[nodes.LayerChoice] = []
        for chosen in zip(*self.info.chosen.values(), strict=True):
            key = tuple(map(id, chosen))
            if key not in rows:
                rows[key] = nodes.LayerChoice(**dict(zip(self.info.chosen, chosen, strict=True)))
            layers.append(rows[key])
        return nodes.Space(
            **head(self.ctx, self.symbol),
            parent=self.info.parent_id,
            layers=tuple(layers),
            init=init,
            used_by=used_by,
            roundings=tuple(self.info.roundings),
        )


def _used_by(ctx: Context, symbol: Symbol) -> nodes.Space | None:
    """`space n of w = used_by(s, top: 10)`: `w`, to be narrowed once `s` is solved."""
    check_parts(ctx, symbol, "needed", "none", "space n of w = used_by(search, top: 10)")
    base = target(ctx, symbol, ("space",))
    call = call_of(ctx, symbol)
    if base is None or call is None:
        return None
    settings = arguments_of(ctx, symbol, call)
    settings.need_all()
    search, top = settings.symbol("search"), settings.read("top")
    info, wide = _start(ctx, symbol, base), ctx.lower(base, nodes.Space)
    if info is None or wide is None:
        return None
    ctx.infos[symbol] = info
    lowered = ctx.lower(search, nodes.Search) if search is not None else None
    if search is not None and lowered is not None and lowered.space != wide.name:
        place = settings.place("search")
        error = space_errors.OtherSpace(place, name=search.name, got=lowered.space, wanted=wide.name)
        ctx.report(error)
    return nodes.Space(
        **head(ctx, symbol),
        parent=wide.parent,
        layers=wide.layers,
        init=wide.init,
        used_by=nodes.UsedBy(search=ctx.name_of(search), top=top) if search is not None else None,
        roundings=wide.roundings,
    )
