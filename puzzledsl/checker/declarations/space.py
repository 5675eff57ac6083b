"""`space w of p { … }`, of another space, and `used_by(search, top: N)`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from puzzledsl.alternatives.alternative import ENDS, SubBlock
from puzzledsl.alternatives.ends import PARENT_ENDS
from puzzledsl.base.diagnostics import Args, Label
from puzzledsl.base.suggest import closest
from puzzledsl.checker import errors
from puzzledsl.checker.context import Context, Refused
from puzzledsl.checker.declarations.common import Declared, shared_statement, space_info
from puzzledsl.checker.expressions.attributes import each_instance
from puzzledsl.checker.expressions.values import Scope, SpaceInfo, Symbol, all_parent, guessed
from puzzledsl.checker.spaces.choices import ChoiceReader
from puzzledsl.ir import nodes
from puzzledsl.language.calls import INITIALISERS
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree

CHOICES = KINDS["space"].settings
_EDITED = (*CHOICES, "layers")
_HAS = "it has " + ", ".join(f"`{key}`" for key in CHOICES) + ", `layers[…]` and `init { … }`"
_HELP = {
    "init": "`init` is a section, and weights are made from the parent's: "
    f"`init {{ {', '.join(f'{name} = {words[-1]}' for name, words in INITIALISERS.items())} }}`",
    "hidden": "the residual stream keeps the parent's width; write narrower FFNs, `ffn = mlp(width: 75% | 50%)`,"
    " or let layers go: `attention = parent | noop`",
}


def lower_space(ctx: Context, symbol: Symbol) -> nodes.Space | None:
    """A space with the choice of every layer; what is known of it goes to `ctx.infos`."""
    space = Declared(ctx, symbol)
    if space.decl.value is not None:
        return _used_by(space)
    space.check_parts("none", "needed")
    base = space.target()
    info = (_start(ctx, symbol, base) if base is not None else None) or guessed(ctx.name_of(symbol))
    info.incomplete |= symbol.file.is_damaged(space.decl.span)
    below = ctx.lowered.get(base) if base else None
    body = _SpaceBody(ctx, info, space=space, scope=space.scope_about(info))
    node = body.lower(below if isinstance(below, nodes.Space) else None)
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


def _used_by(space: Declared) -> nodes.Space:
    """`space n of w = used_by(s, top: 10)`: `w`, to be narrowed once `s` is solved."""
    ctx = space.ctx
    space.check_parts("needed", "none", "space n of w = used_by(search, top: 10)")
    base, call = space.target("space"), space.call()
    if base is None:
        raise Refused
    settings = space.arguments(call)
    settings.need_all()
    search, top = settings.symbol("search"), settings.read("top")
    info, wide = _start(ctx, space.symbol, base), ctx.need(base, nodes.Space)
    assert info is not None
    ctx.infos[space.symbol] = info
    if search is None:
        return wide.model_copy(update=space.head())
    lowered = ctx.lower(search, nodes.Search)
    if lowered is not None and lowered.space != wide.name:
        said: Args = {"name": search.name, "got": lowered.space, "wanted": wide.name}
        ctx.report(errors.OtherSpace(settings.place("search"), **said))
    used_by = nodes.UsedBy(search=ctx.name_of(search), top=top)
    return wide.model_copy(update={**space.head(), "used_by": used_by})


@dataclass(slots=True, eq=False)
class _SpaceBody(ChoiceReader):
    """Reader of a space's statements: choices first, then overrides and assertions in order."""

    space: Declared = field(kw_only=True)
    scope: Scope = field(kw_only=True)
    choices: dict[str, tree.Assign] = field(default_factory=dict)
    init: tree.Section | None = None

    def lower(self, base: nodes.Space | None) -> nodes.Space:
        """Return the node of the space, which is of the space `base` or of a parent."""
        ctx, info = self.ctx, self.info
        body = self.space.decl.body or ()
        if base is not None and base.used_by is not None:
            body = tuple(statement for statement in body if self._may_narrow(statement, base))
        rest = [statement for statement in body if not self._is_choice(statement)]
        if not self.choices and not info.guessed and base is None:
            self.space.missing("`attention` or `ffn`", f"write `{self.space.kind.form}`")
        for statement in rest:
            ctx.attempt(self._statement, statement, self.scope)
        self.report_empty()
        init = nodes.Initialisers() if base is None else base.init
        if self.init is not None:
            settings = self.space.section("init", self.init, self.scope)
            found = {key: settings.read(key, getattr(init, key)) for key in settings.table}
            init = nodes.Initialisers(**found)
        # nothing where both ends stay as they are
        ends = {site: own for site, own in info.ends.items() if own != (PARENT_ENDS[site],)}
        return nodes.Space(
            **self.space.head(),
            parent=info.parent_id,
            layers=self._layers(),
            ends=nodes.EndsChoice.model_validate(ends) if ends else None,
            init=init,
            used_by=base.used_by if base is not None else None,
            roundings=tuple(info.roundings),
        )

    def _layers(self) -> tuple[nodes.LayerChoice, ...]:
        """The choice of every layer; layers with one choice share the object."""
        rows: dict[tuple[int, ...], nodes.LayerChoice] = {}
        layers: list[nodes.LayerChoice] = []
        for chosen in zip(*self.info.chosen.values(), strict=True):
            key = tuple(map(id, chosen))
            if key not in rows:
                rows[key] = nodes.LayerChoice(**dict(zip(self.info.chosen, chosen, strict=True)))
            layers.append(rows[key])
        return tuple(layers)

    def _may_narrow(self, statement: tree.Stmt, base: nodes.Space) -> bool:
        """Report an edit of a narrowed space, whose layers are not known yet."""
        if isinstance(statement, tree.Section | tree.Assert | tree.Let):
            return True
        help = "edit the space that the search is of; here, write `init { … }` alone"
        what = f"editing the layers of `{base.name}`, which a search decides,"
        self.ctx.misplaced(statement.span, what, self.space.thing, help)
        return False

    def _is_choice(self, statement: tree.Stmt) -> bool:
        """Read `attention = …` and `ffn = …` (and `let`s, which these may use); false for what comes later."""
        match statement:
            case tree.Let():
                shared_statement(self.ctx, statement, self.scope, self.space.thing)
                return True
            case tree.Assign(target=tree.Name(text=name) as word, op="=") if name != "layers":
                self.ctx.attempt(self._choice, statement, word)
                return True
        return False

    def _choice(self, statement: tree.Assign, word: tree.Name) -> None:
        key = word.text
        if key not in CHOICES:
            key = self._report_unknown(word, _HELP.get(key, _HAS))
        if key in self.choices:
            label = Label(self.choices[key].target.span, "first set here")
            help = "join both with `|`, or edit layers: `layers[…].attention |= …`"
            raise self.ctx.refuse(errors.DuplicateKey(word.span, name=key, secondary=[label], help=help))
        self.choices[key] = statement
        value, layers = statement.value, self.info.all_layers
        assert not isinstance(value, tree.Pattern | tree.PatternChoice)
        if key in ENDS:
            self.info.ends[key] = self.of_end(value, self.scope, key) or (PARENT_ENDS[key],)
            return
        part = cast(SubBlock, key)
        found = self.alternatives(value, self.scope, part, layers, each=False)
        self.info.choose(part, [found[layer] for layer in layers])

    def _report_unknown(self, name: tree.Name, help: str = "", known: Sequence[str] = _EDITED) -> str:
        """Report an unknown setting; return the choice that is meant, if it is one."""
        near = closest(name.text, known)
        said: Args = {"thing": self.space.thing, "name": name.text}
        self.ctx.report(errors.UnknownKey(name.span, near=near, help=help, **said))
        if near not in CHOICES:
            raise Refused
        return str(near)

    def _statement(self, statement: tree.Stmt, scope: Scope) -> None:
        match statement:
            case tree.ForAll():
                each_instance(self.ctx, statement, scope, self._statement)
            case tree.Assign(target=tree.Name(text=name) as word) if name not in _EDITED:
                self._report_unknown(word)
            case tree.Assign():
                self.attempt(self.override, statement, scope)
            case tree.Section(name=tree.Name(text="init") as name):
                if self.init is not None:
                    self.ctx.report(errors.DuplicateKey(name.span, name="init"))
                self.init = statement
            case tree.Section(name=name):
                self._report_unknown(name, "it has `init { … }`", tuple(KINDS["space"].sections))
            case _:
                shared_statement(self.ctx, statement, scope, self.space.thing)
