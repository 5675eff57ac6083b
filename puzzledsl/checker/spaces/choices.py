"""Lowering of `space w of p { … }`, of a parent or another space, and of `space n of w = used_by(search, top: N)`.

Every kind of layer reads a choice for itself: `mlp(width: 50%)` is half of each layer's own width. An alternative equal to
the parent's own sub-block becomes `parent`. Duplicates are kept once, in the order written. Overrides such as
`layers[2..9].attention -= noop` are applied in order. Layers left empty are reported after the last one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeVar, cast

from puzzledsl.alternatives import registry
from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative, Site, SubBlock, absent, storage_misfit
from puzzledsl.alternatives.parent import PARENT_ENDS
from puzzledsl.alternatives.precision import PrecisionDoesNotFit
from puzzledsl.alternatives.shape import Shape
from puzzledsl.base.diagnostics import Args, Diagnostic, Fix, Label, Span
from puzzledsl.base.phrases import closest, layers_in_words
from puzzledsl.base.settings import Call, Setting
from puzzledsl.checker import errors
from puzzledsl.checker.context import Context, Refused
from puzzledsl.checker.declarations.common import Declared, shared_statement, space_info
from puzzledsl.checker.expressions import values
from puzzledsl.checker.expressions.attributes import each_instance
from puzzledsl.checker.expressions.numbers import wrong_list
from puzzledsl.checker.expressions.settings import from_call
from puzzledsl.checker.expressions.values import Choice, Constructed, Scope, SpaceInfo, Symbol, Value
from puzzledsl.checker.spaces.arguments import CallArguments, options_of, predicate, report_unknown
from puzzledsl.ir import nodes
from puzzledsl.language.kinds import ALTERNATIVES, INITIALISERS, KINDS, MIXERS, STORAGE
from puzzledsl.syntax import tree

T = TypeVar("T")
_Edit = Callable[[Choice, int, Shape], Choice]
"""A function from a layer's choice so far, its index and its shape to its new choice."""


@dataclass(slots=True, eq=False)
class _Kind:
    """Layers in which the parent's sub-block has one shape, and the alternatives that were read for them."""

    shape: Shape
    layers: tuple[int, ...]
    found: dict[Alternative, None] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class ChoiceReader:
    """Reader of a space's choices and overrides. `emptied`: where no alternative is left -> the override, and what was there."""

    ctx: Context
    info: SpaceInfo
    emptied: dict[tuple[SubBlock, int], tuple[Span, Choice]] = field(default_factory=dict)

    def alternatives(
        self, expr: tree.Expr, scope: Scope, sub_block: SubBlock, layers: Sequence[int], *, each: bool
    ) -> dict[int, Choice]:
        """Return layer -> its alternatives by `expr`. With `each`, all `layers` must be able to have them, else at least one."""
        found: dict[int, Choice] = {}
        for kind in self._read_all(expr, scope, sub_block, layers, each=each):
            found |= dict.fromkeys(kind.layers, tuple(kind.found))
        return found

    def _read_all(
        self, expr: tree.Expr, scope: Scope, site: Site, layers: Sequence[int], *, each: bool
    ) -> list[_Kind]:
        """Return `layers` by kind, with the alternatives read for each kind; for an end, the whole model is the only kind."""
        wanted, calls, shape = set(layers), self._calls(expr, scope, site), self.info.shape
        kinds = [
            _Kind(own, here)
            for own, indices in ([(shape, ())] if site in PARENT_ENDS else shape.kinds_of(site))
            if (here := tuple(i for i in indices if i in wanted)) or site in PARENT_ENDS
        ]
        reasons = [[registry.KINDS[site][call.name].unfit(kind.shape) for kind in kinds] for call in calls]
        for call, unfit in zip(calls, reasons, strict=True):
            self.attempt(self._read, call, registry.KINDS[site][call.name], kinds, unfit, each)
        return kinds

    def attempt(self, read: Callable[..., T], *arguments: object) -> T | None:
        """Return `read(*arguments)`; where that raises Refused, mark the space as incomplete and return None."""
        try:
            return read(*arguments)
        except Refused:
            self.info.incomplete = True
            return None

    def _read(
        self, call: Constructed, own: type[Alternative], kinds: list[_Kind], reasons: list[str], each: bool
    ) -> None:
        """Add the alternatives of one call to each kind that can have them. `reasons`: why each kind cannot; empty if it can."""
        fit = [kind for kind, reason in zip(kinds, reasons, strict=True) if not reason]
        if len(fit) < len(kinds) and (each or not fit):
            unfit = [pair for pair in zip(kinds, reasons, strict=True) if pair[1]]
            there = [pair for pair in unfit if not absent(own.sub_block, pair[0].shape)]
            self.info.incomplete = True
            for kind, why in () if self.info.guessed else unfit if each else there or unfit:
                help, layers = "", layers_in_words(kind.layers)
                if call.name == "moe" and kind.shape.ffn == "dense":
                    help = "`moe` keeps some of a mixture's experts; a dense FFN has `mlp(width: 50%)`, `linear` and `noop`"
                said: Args = {"layers": layers, "text": self.ctx.source(call.span), "why": why}
                self.ctx.report(errors.NotInThisLayer(call.span, help=help, **said))
            return
        form = ALTERNATIVES[own.sub_block][call.name]
        for argument in call.arguments:
            name, value = argument.name.text if argument.name else "", argument.value
            known = form.arguments.get(name, Setting(""))
            if known.words and known.noun and isinstance(value, tree.ListExpr):
                wrong_list(self.ctx, value.span, len(value.items), f"`{name}`", f"a {known.noun}")
            for option in options_of(value) if len(fit) > 1 else ():  # which each kind would report anew
                if not isinstance(option, tree.Name) or option.text not in known.words:
                    self.ctx.sound(option, call.scope)
        if len(fit) == 1:
            self._read_one(call, own, form, fit[0])
            return
        read = partial(self.attempt, self._read_one, call, own, form)
        trials = [self.ctx.trial(partial(read, kind)) for kind in fit]
        for problem in _shared([problems for _, problems in trials], each):
            self.info.incomplete = True
            self.ctx.report(problem)

    def _read_one(self, call: Constructed, alternative: type[Alternative], form: Call, kind: _Kind) -> None:
        arguments = from_call(self.ctx, call, form, partial(CallArguments, info=self.info, shape=kind.shape))
        assert isinstance(arguments, CallArguments)
        for option in self._in_types(alternative.read(arguments), arguments, kind):
            kind.found[option] = None
        self.info.incomplete |= arguments.failed

    def _in_types(
        self, options: Sequence[Alternative], call: CallArguments, kind: _Kind
    ) -> Sequence[Alternative]:
        """Return each option in each type that the call's `dtype` and `kv_cache` list; nothing, reported, if one does not fit."""
        for key in (key for key in STORAGE if key in call.table and call.has(key)):
            options = [each.model_copy(update={key: word}) for word in call.types(key) for each in options]
            for option in options:
                if why := storage_misfit(option, kind.shape):
                    mixer = kind.shape.mixer in MIXERS and option.sub_block == "attention"
                    help = f"leave `{key}` out in those layers" if mixer or key == "kv_cache" else None
                    said: Args = {"dtype": getattr(option, key), "name": option.plain_name, "why": why}
                    layers = layers_in_words(kind.layers) if kind.layers else f"the {option.sub_block}"
                    said |= {"layers": layers, "help": help}
                    call.refuse(key, PrecisionDoesNotFit(call.place(key), **said))
                    return []
            if not call.affords(len(options)):
                return []
        return options

    def _calls(self, expr: tree.Expr, scope: Scope, sub_block: Site) -> list[Constructed]:
        if isinstance(expr, tree.Choice):
            return [call for option in expr.options for call in self._calls(option, scope, sub_block)]
        word = expr.function if isinstance(expr, tree.Call) else expr
        arguments = expr.arguments if isinstance(expr, tree.Call) else ()
        text = word.text if isinstance(word, tree.Name) else ""
        if text in ALTERNATIVES[sub_block]:
            return [Constructed(text, arguments, scope, expr.span)]
        if not isinstance(word, tree.Name) or scope.local(text) is not None or text in scope.file.names:
            return self._from_value(self.ctx.value(expr, scope), expr.span, sub_block)
        meant = None if scope.file.declares_unread(text) else report_unknown(self.ctx, word, sub_block)
        self.info.incomplete |= meant is None
        return [] if meant is None else [Constructed(meant, arguments, scope, expr.span)]

    def _from_value(self, value: Value, span: Span, sub_block: Site) -> list[Constructed]:
        match value:
            case values.Options(options=options):
                return [call for o in options for call in self._from_value(o.value, o.span, sub_block)]
            case Constructed(name=name, base=None) if name in ALTERNATIVES[sub_block]:
                return [value]
            case Constructed(name=name, base=None) if any(name in names for names in ALTERNATIVES.values()):
                report_unknown(self.ctx, tree.Name(span=span, text=name), sub_block)
            case _:
                wanted = f"alternatives ({', '.join(f'`{n}`' for n in ALTERNATIVES[sub_block])})"
                self.ctx.wrong(span, f"`{sub_block}`", wanted, value)
        self.info.incomplete = True
        return []

    def override(self, statement: tree.Assign, scope: Scope) -> None:
        """Apply one override, such as `layers[2..].ffn -= noop`. Warn of a `|=` or `-=` that changes nothing."""
        span, changed = statement.target.span, False
        place = self.ctx.sound(statement.target, scope)
        targets: list[SubBlock] = [place.sub_block] if isinstance(place, values.SubBlocks) else [*SUB_BLOCKS]
        if not isinstance(place, values.Layers | values.SubBlocks) or not place.indices:
            wanted = "`layers[…]`, `layers[…].attention` or `layers[…].ffn`"
            self.ctx.wrong(span, "what an override edits", wanted, place)
            return
        for sub_block in targets:
            edit = self._edit(statement, scope, sub_block, place.indices)
            changed |= self._change(sub_block, place.indices, edit, statement.span)
        if not changed and not self.info.incomplete and statement.op in ("|=", "-="):
            why = "it is already there" if statement.op == "|=" else "no layer here has it"
            fixes = [Fix.replace(statement.span, "", "remove this override", safe=False)]
            self.ctx.report(errors.OverrideDoesNothing(statement.value.span, why=why, fixes=fixes))

    def _edit(self, statement: tree.Assign, scope: Scope, site: SubBlock, layers: tuple[int, ...]) -> _Edit:
        """Return the function by which an override makes the new choice of a sub-block in a layer."""
        value, target, op = statement.value, statement.target, statement.op
        if isinstance(value, tree.BadExpr):
            raise Refused
        if isinstance(value, tree.Pattern | tree.PatternChoice):
            test, keeps = predicate(self.ctx, value, scope, self.info, site), op == "&="
            return lambda old, layer, own: tuple(a for a in old if test(a, own) == keeps)
        before, self.info.incomplete = self.info.incomplete, False
        # `ffn`, `layers` and `layers.ffn` select no layers
        root = target.target if isinstance(target, tree.Attribute) else target
        each = not isinstance(root, tree.Name) or root.text not in (*SUB_BLOCKS, "layers")
        found = self.alternatives(value, scope, site, layers, each=each)
        lost, self.info.incomplete = self.info.incomplete, before
        if lost:
            raise Refused
        if op == "=":
            return lambda old, layer, own: found[layer]
        return lambda old, layer, own: tuple(dict.fromkeys((*old, *found[layer])))

    def _change(self, sub_block: SubBlock, layers: tuple[int, ...], edit: _Edit, span: Span) -> bool:
        """Edit the choice of some layers and return True if any changed. Layers that share a choice share the result."""
        rows = self.info.chosen[sub_block]
        done: dict[tuple[int, int], tuple[Choice, Shape, Choice]] = {}
        changed = False
        for layer in layers:
            old, own = rows[layer], self.info.shape.at(layer)
            key = id(old), id(own)
            if key not in done:
                done[key] = (old, own, edit(old, layer, own))
            rows[layer] = new = done[key][2]
            changed |= new != old
            if not new:
                self.emptied.setdefault((sub_block, layer), (span, old))
            else:
                self.emptied.pop((sub_block, layer), None)
        return changed


def _shared(found: Sequence[Sequence[Diagnostic]], each: bool) -> list[Diagnostic]:
    """Return, each once, the diagnostics that all readings in `found` have in common; with `each`, those of any reading."""
    by_place = [{(d.code, d.span): d for d in diagnostics} for diagnostics in found]
    places = dict.fromkeys(place for known in by_place for place in known)
    kept = [p for p in places if each or all(p in known for known in by_place)]
    return [next(known[p] for known in by_place if p in known) for p in kept]


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
    """Lower a space to the choice of every layer, and record its SpaceInfo in `ctx.infos`. None if its `of` is faulty."""
    space = Declared(ctx, symbol)
    if space.decl.value is not None:
        return _used_by(space)
    space.check_parts("none", "needed")
    base = space.target()
    info = (_start(ctx, symbol, base) if base is not None else None) or values.guessed(ctx.name_of(symbol))
    info.incomplete |= symbol.file.is_damaged(space.decl.span)
    below = ctx.lowered.get(base) if base else None
    body = _SpaceBody(ctx, info, space=space, scope=space.scope_about(info))
    node = body.lower(below if isinstance(below, nodes.Space) else None)
    return None if info.guessed else node


def _start(ctx: Context, symbol: Symbol, base: Symbol) -> SpaceInfo | None:
    """Return what a space begins with: the parent's sub-blocks, or a copy of the space `base`; None if `base` is unknown."""
    if base.kind == "space":
        other = space_info(ctx, base)
        return None if other is None else other.derived(ctx.name_of(symbol))
    parent = ctx.lower(base, nodes.Parent)
    if parent is None:
        return None
    return values.all_parent(ctx.name_of(symbol), base.name, parent.name, parent.shape)


def _used_by(space: Declared) -> nodes.Space:
    """Lower `space n of w = used_by(s, top: 10)` to the node of `w`, with a note to narrow it once `s` is solved."""
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
    """Reader of a space's statements: choices and `let`s first, then overrides and assertions in order."""

    space: Declared = field(kw_only=True)
    scope: Scope = field(kw_only=True)
    choices: dict[str, tree.Assign] = field(default_factory=dict)
    init: tree.Section | None = None

    def lower(self, base: nodes.Space | None) -> nodes.Space:
        """Read the statements and return the space's node. `base` is the space that it is of, None if it is of a parent."""
        ctx, info, body = self.ctx, self.info, self.space.decl.body or ()
        if base is not None and base.used_by is not None:
            body = tuple(statement for statement in body if self._may_narrow(statement, base))
        rest = [statement for statement in body if not self._is_choice(statement)]
        if not self.choices and not info.guessed and base is None:
            self.space.missing("`attention` or `ffn`", f"write `{self.space.kind.form}`")
        for statement in rest:
            ctx.attempt(self._statement, statement, self.scope)
        groups: dict[tuple[Span, SubBlock], list[int]] = {}
        for (part, layer), (span, _) in () if info.incomplete else self.emptied.items():
            groups.setdefault((span, part), []).append(layer)
        for (span, part), layers in groups.items():
            had = ", ".join(f"`{a.name}`" for a in self.emptied[part, layers[0]][1])
            text = f"{layers_in_words(sorted(layers))} {'is' if len(layers) == 1 else 'are'}"
            help = f"layer {layers[0]} had {had}"
            ctx.report(errors.EmptyChoice(span, layers=text, sub_block=part, help=help))
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
        """Return the choice of every layer. Layers whose choices are the same objects share one LayerChoice."""
        rows: dict[tuple[int, ...], nodes.LayerChoice] = {}
        layers: list[nodes.LayerChoice] = []
        for chosen in zip(*self.info.chosen.values(), strict=True):
            key = tuple(map(id, chosen))
            if key not in rows:
                rows[key] = nodes.LayerChoice(**dict(zip(self.info.chosen, chosen, strict=True)))
            layers.append(rows[key])
        return tuple(layers)

    def _may_narrow(self, statement: tree.Stmt, base: nodes.Space) -> bool:
        """Return True if a space of `base`, whose layers a search decides, may have a statement; else report it."""
        if isinstance(statement, tree.Section | tree.Assert | tree.Let):
            return True
        help = "edit the space that the search is of; here, write `init { … }` alone"
        what = f"editing the layers of `{base.name}`, which a search decides,"
        self.ctx.misplaced(statement.span, what, self.space.thing, help)
        return False

    def _is_choice(self, statement: tree.Stmt) -> bool:
        """Read a choice such as `ffn = …`, or a `let`, and return True; return False for a statement that is read later."""
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
        if key in PARENT_ENDS:
            end = cast(Literal["embedding", "head"], key)
            (model,) = self._read_all(value, self.scope, end, (), each=False)
            self.info.ends[end] = tuple(model.found) or (PARENT_ENDS[end],)
            return
        part = cast(SubBlock, key)
        found = self.alternatives(value, self.scope, part, layers, each=False)
        self.info.choose(part, [found[layer] for layer in layers])

    def _report_unknown(self, name: tree.Name, help: str = "", known: Sequence[str] = _EDITED) -> str:
        """Report an unknown setting and return the choice that is probably meant. Refuse one that is near no choice."""
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
