"""Parts of a declaration that the lowering of every kind reads: its head, its target and the call on its right."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Literal

from puzzledsl.alternatives.alternative import SUB_BLOCKS
from puzzledsl.base.diagnostics import Span
from puzzledsl.checker.bodies import from_body
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.expressions.search_values import Layers, SubBlocks, Symbolic, TermKey
from puzzledsl.checker.expressions.settings import Settings, from_call, read_call
from puzzledsl.checker.expressions.values import BuiltIn, Constructed, Scope, Symbol, Value, article
from puzzledsl.checker.names.words import read_ref
from puzzledsl.checker.spaces.space_info import SpaceInfo
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import fixed_params
from puzzledsl.ir.nodes import Where
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree

Need = Literal["needed", "allowed", "none"]


def declaration(symbol: Symbol) -> tree.Decl:
    """Return the tree of a declared symbol."""
    assert isinstance(symbol.item, tree.Decl)
    return symbol.item


def thing(symbol: Symbol) -> str:
    """Return a declaration's kind and name for diagnostics: ``bld `pieces` ``."""
    return f"{symbol.kind} `{symbol.name}`"


def where(ctx: Context, symbol: Symbol) -> Where:
    """Return the place of a declaration's head: its kind and name."""
    kind, name = declaration(symbol).kind.span, symbol.span
    return ctx.where(Span(kind.file, kind.line, kind.column, name.end_line, name.end_column))


def check_parts(
    ctx: Context, symbol: Symbol, value: Need | None = None, body: Need | None = None, example: str = ""
) -> None:
    """Report a missing or superfluous `= …` or `{ … }`: what a kind has but one of must be there.

    `value` and `body` say otherwise. `example` is the help's correct form, the kind's own unless given.
    """
    decl, kind = declaration(symbol), KINDS[symbol.kind]
    value = value or ("none" if kind.value is None else "allowed" if kind.has_body else "needed")
    body = body or ("needed" if kind.value is None else "allowed" if kind.has_body else "none")
    example = example or kind.form
    for part, need, sign in ((decl.value, value, "= …"), (decl.body, body, "{ … }")):
        if part is None and need == "needed" and not symbol.file.is_damaged(decl.span):
            what = f"`{sign}`"
            ctx.report(
                name_errors.MissingPart(
                    symbol.span, thing=thing(symbol), what=what, help=f"write `{example}`"
                )
            )
    if decl.value is not None and value == "none":
        place = decl.value.span
        ctx.report(name_errors.Misplaced(place, what="`= …`", where=thing(symbol), help=f"write `{example}`"))
    if decl.body and body == "none":
        place = decl.body[0].span
        one_line = Span(place.file, place.line, place.column, place.line, place.column + 1)
        ctx.report(
            name_errors.Misplaced(one_line, what="`{ … }`", where=thing(symbol), help=f"write `{example}`")
        )


def target(ctx: Context, symbol: Symbol, kinds: tuple[str, ...] = ()) -> Symbol | None:
    """Return the declaration after `of` or `on`; None, reported, if it is missing or of a wrong kind.

    `kinds` restricts those that the symbol's kind can build on.
    """
    decl, preposition = declaration(symbol), KINDS[symbol.kind].preposition
    kinds = kinds or KINDS[symbol.kind].targets
    if decl.target is None:
        if isinstance(decl.value, tree.Name) and symbol.kind in ("search", "bld", "uptrain"):
            return read_ref(ctx, decl.value, Scope(symbol.file), kinds)  # `= x` for `of x` is reported
        if not symbol.file.is_damaged(decl.kind.span):
            wanted = f"`{preposition}` {' or '.join(article(k) for k in kinds)}"
            known = [
                s.name
                for s in symbol.file.names.values()
                if isinstance(s, Symbol) and s.kind in kinds and s is not symbol
            ]
            help = f"write `{symbol.kind} {symbol.name} {preposition} {known[-1] if known else '…'}`"
            ctx.report(name_errors.MissingPart(symbol.span, thing=thing(symbol), what=wanted, help=help))
        return None
    if decl.preposition != preposition:
        span = decl.target.span
        help = f"write `{preposition} {ctx.source(span)}`"
        ctx.report(name_errors.Misplaced(span, what=f"`{decl.preposition}`", where=thing(symbol), help=help))
    return read_ref(ctx, decl.target, Scope(symbol.file), kinds)


def target_later(ctx: Context, symbol: Symbol) -> Symbol | None:
    """Return the declaration after `of` or `on`, which is lowered later; None, reported, if it is missing or wrong."""
    found = target(ctx, symbol)
    if found is not None:
        ctx.lower_later(found)
    return found


def head(ctx: Context, symbol: Symbol, of: Symbol | None = None) -> dict[str, Any]:
    """Return the fields that a declaration's head gives: name, comment, place, and the name of what it builds on."""
    found: dict[str, Any] = {"name": ctx.name_of(symbol), "doc": declaration(symbol).doc}
    if field := KINDS[symbol.kind].of:
        found[field] = "" if of is None else ctx.name_of(of)
    return {**found, "where": where(ctx, symbol)}


def no_target(ctx: Context, symbol: Symbol) -> None:
    """Report `of …` on a declaration that takes none."""
    decl = declaration(symbol)
    if decl.target is not None:
        ctx.report(name_errors.Misplaced(decl.target.span, what=f"`{decl.preposition}`", where=thing(symbol)))


def body_of(ctx: Context, symbol: Symbol) -> tuple[Settings, dict[str, tree.Section]]:
    """Return the settings and sections of a declaration's body."""
    kind, decl = KINDS[symbol.kind], declaration(symbol)
    scope = ctx.scopes[symbol] = Scope(symbol.file).inner()
    found, sections = from_body(ctx, decl, scope, kind.settings, thing(symbol), symbol.span, kind.sections)
    found.quiet_about_missing |= decl.body is None
    return found, sections


def section_of(
    ctx: Context, symbol: Symbol, name: str, section: tree.Section, scope: Scope | None = None
) -> Settings:
    """Return the settings of the section `name` of a declaration, which may be misspelt. Its `let`s are its own."""
    table = KINDS[symbol.kind].sections[name].settings
    inner = (scope or Scope(symbol.file)).inner()
    return from_body(ctx, section, inner, table, f"`{name}`", section.name.span)[0]


def call_of(ctx: Context, symbol: Symbol) -> Constructed | None:
    """Return the call right of a declaration's `=`; None if there is none or it is wrong, which is reported."""
    value, takes = declaration(symbol).value, KINDS[symbol.kind].value
    return None if value is None or takes is None else read_call(ctx, value, Scope(symbol.file), takes)


def arguments_of(ctx: Context, symbol: Symbol, call: Constructed) -> Settings:
    """Return the arguments of the call right of a declaration's `=`."""
    takes = KINDS[symbol.kind].value
    assert takes is not None
    return from_call(ctx, call, takes.calls[call.name])


def only_data(ctx: Context, symbol: Symbol, settings: Settings, required: bool) -> str | None:
    """Return the data set that a setting names, else the program's only one. `required`: report if several exist."""
    if settings.has("data"):
        found = settings.symbol("data")
    else:
        known = [s for s in symbol.file.names.values() if isinstance(s, Symbol) and s.kind == "data"]
        found = known[0] if len(known) == 1 else None
        if len(known) > 1 and required and not symbol.file.is_damaged(symbol.item.span):
            listed = ", ".join(f"`{s.name}`" for s in known)
            help = f"write `data = {known[0].name}`; there are {listed}"
            ctx.report(name_errors.MissingPart(symbol.span, thing=thing(symbol), what="`data`", help=help))
    if found is None:
        return None
    ctx.lower_later(found)
    return ctx.name_of(found)


def space_names(info: SpaceInfo) -> dict[str, Value]:
    """Return the names that a space defines for its own statements and for its searches' expressions."""
    params: dict[TermKey, Fraction] = {("params",): Fraction(1)}
    active: dict[TermKey, Fraction] = {
        ("fact", part, "active_params", layer): Fraction(1)
        for part in SUB_BLOCKS
        for layer in info.all_layers
    }
    return {
        "layers": Layers(info, info.all_layers),
        "layer": Layers(info, ()),
        "attention": SubBlocks(info, "attention", info.all_layers),
        "ffn": SubBlocks(info, "ffn", info.all_layers),
        "size": BuiltIn("size"),
        "params": Symbolic(params),
        "active_params": Symbolic(active, Fraction(fixed_params(info.shape)), space=info),
    }


def scope_about(ctx: Context, symbol: Symbol, info: SpaceInfo) -> Scope:
    """Return the scope of a declaration about a space, and record both for editors."""
    ctx.infos[symbol] = info
    scope = ctx.scopes[symbol] = Scope(symbol.file).inner(space_names(info))
    return scope


def space_info(ctx: Context, space: Symbol) -> SpaceInfo | None:
    """Return the checker's knowledge of a declared space; None if the space or its parent could not be read."""
    ctx.lower(space, nodes.Space)
    return ctx.infos.get(space)
