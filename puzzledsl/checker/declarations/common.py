"""Parts of a declaration that the lowering of every kind reads: its head, its target, the call on its right and its body."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Literal

from puzzledsl.alternatives.alternative import ENDS, SUB_BLOCKS
from puzzledsl.base.diagnostics import Args, Span
from puzzledsl.checker.bodies import from_body
from puzzledsl.checker.context import Context, Refused
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.expressions import values
from puzzledsl.checker.expressions.settings import Settings, from_call, read_call
from puzzledsl.checker.names.words import read_ref
from puzzledsl.checker.spaces.space_info import SpaceInfo
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import fixed_params
from puzzledsl.ir.nodes import Where
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree

Need = Literal["needed", "allowed", "none"]


def declaration(symbol: values.Symbol) -> tree.Decl:
    """Return the tree of a declared symbol."""
    assert isinstance(symbol.item, tree.Decl)
    return symbol.item


def thing(symbol: values.Symbol) -> str:
    """Return a declaration's kind and name for diagnostics: ``bld `pieces` ``."""
    return f"{symbol.kind} `{symbol.name}`"


def where(ctx: Context, symbol: values.Symbol) -> Where:
    """Return the place of a declaration's head: its kind and name."""
    kind, name = declaration(symbol).kind.span, symbol.span
    return ctx.where(Span(kind.file, kind.line, kind.column, name.end_line, name.end_column))


def missing(ctx: Context, symbol: values.Symbol, what: str, help: str) -> None:
    """Report a part that a declaration lacks, unless the parser lost something of it."""
    if not symbol.file.is_damaged(symbol.item.span):
        ctx.report(name_errors.MissingPart(symbol.span, thing=thing(symbol), what=what, help=help))


def check_parts(
    ctx: Context,
    symbol: values.Symbol,
    value: Need | None = None,
    body: Need | None = None,
    example: str = "",
) -> None:
    """Report a missing or superfluous `of …`, `= …` or `{ … }`: what a kind has but one of must be there.

    `value` and `body` say otherwise. `example` is the help's correct form, the kind's own unless given.
    """
    decl, kind = declaration(symbol), KINDS[symbol.kind]
    value = value or ("none" if kind.value is None else "allowed" if kind.settings else "needed")
    body = body or ("needed" if kind.value is None else "allowed" if kind.settings else "none")
    help = f"write `{example or kind.form}`"
    for part, need, sign in ((decl.value, value, "`= …`"), (decl.body, body, "`{ … }`")):
        if part is None and need == "needed":
            missing(ctx, symbol, sign, help)
    if decl.value is not None and value == "none":
        said: Args = {"what": "`= …`", "where": thing(symbol)}
        ctx.report(name_errors.Misplaced(decl.value.span, help=help, **said))
    if decl.body and body == "none":
        said, at = {"what": "`{ … }`", "where": thing(symbol)}, decl.body[0].span.start
        one = Span(at.file, at.line, at.column, at.line, at.column + 1)
        ctx.report(name_errors.Misplaced(one, help=help, **said))
    if decl.target is not None and not kind.targets:
        said = {"what": f"`{decl.preposition}`", "where": thing(symbol)}
        ctx.report(name_errors.Misplaced(decl.target.span, **said))


def target(ctx: Context, symbol: values.Symbol, kinds: tuple[str, ...] = ()) -> values.Symbol | None:
    """Return the declaration after `of` or `on`; None, reported, if it is missing or of a wrong kind.

    `kinds` restricts those that the symbol's kind can build on.
    """
    decl, preposition = declaration(symbol), KINDS[symbol.kind].preposition
    kinds, named = kinds or KINDS[symbol.kind].targets, decl.target
    if named is None:
        if isinstance(decl.value, tree.Name) and symbol.kind in ("search", "bld", "uptrain"):
            named = decl.value  # `= x` for `of x` is reported
        elif not symbol.file.is_damaged(decl.kind.span):
            known = [s.name for s in symbol.file.symbols(*kinds) if s is not symbol]
            wanted = f"`{preposition}` {' or '.join(values.article(k) for k in kinds)}"
            help = f"write `{symbol.kind} {symbol.name} {preposition} {known[-1] if known else '…'}`"
            ctx.report(name_errors.MissingPart(symbol.span, thing=thing(symbol), what=wanted, help=help))
    elif decl.preposition != preposition:
        help = f"write `{preposition} {ctx.source(named.span)}`"
        said: Args = {"what": f"`{decl.preposition}`", "where": thing(symbol)}
        ctx.report(name_errors.Misplaced(named.span, help=help, **said))
    return None if named is None else ctx.attempt(read_ref, ctx, named, values.Scope(symbol.file), kinds)


def target_later(ctx: Context, symbol: values.Symbol) -> values.Symbol | None:
    """Return the declaration after `of` or `on`, which is lowered later; None, reported, if it is missing or wrong."""
    found = target(ctx, symbol)
    if found is not None:
        ctx.lower_later(found)
    return found


def head(ctx: Context, symbol: values.Symbol, of: values.Symbol | None = None) -> dict[str, Any]:
    """Return the fields that a declaration's head gives: name, comment, place, and the name of what it builds on."""
    found: dict[str, Any] = {"name": ctx.name_of(symbol), "doc": declaration(symbol).doc}
    if field := KINDS[symbol.kind].of:
        found[field] = "" if of is None else ctx.name_of(of)
    return {**found, "where": where(ctx, symbol)}


def body_of(ctx: Context, symbol: values.Symbol) -> tuple[Settings, dict[str, tree.Section]]:
    """Return the settings and sections of a declaration's body."""
    kind, decl = KINDS[symbol.kind], declaration(symbol)
    scope = ctx.scopes[symbol] = values.Scope(symbol.file).inner()
    found, sections = from_body(ctx, decl, scope, kind.settings, thing(symbol), symbol.span, kind.sections)
    found.quiet_about_missing |= decl.body is None
    return found, sections


def section_of(
    ctx: Context, symbol: values.Symbol, name: str, section: tree.Section, scope: values.Scope | None = None
) -> Settings:
    """Return the settings of the section `name` of a declaration, which may be misspelt. Its `let`s are its own."""
    table = KINDS[symbol.kind].sections[name].settings
    inner = (scope or values.Scope(symbol.file)).inner()
    return from_body(ctx, section, inner, table, f"`{name}`", section.name.span)[0]


def call_of(ctx: Context, symbol: values.Symbol) -> values.Constructed:
    """Return the call right of a declaration's `=`. Refuse a declaration without one."""
    value, takes = declaration(symbol).value, KINDS[symbol.kind].value
    if value is None or takes is None:
        raise Refused
    return read_call(ctx, value, values.Scope(symbol.file), takes)


def arguments_of(ctx: Context, symbol: values.Symbol, call: values.Constructed) -> Settings:
    """Return the arguments of the call right of a declaration's `=`."""
    takes = KINDS[symbol.kind].value
    assert takes is not None
    return from_call(ctx, call, takes.calls[call.name])


def only_data(ctx: Context, symbol: values.Symbol, settings: Settings, required: bool) -> str | None:
    """Return the data set that a setting names, else the program's only one. `required`: report if several exist."""
    if settings.has("data"):
        found = settings.symbol("data")
    else:
        known = symbol.file.symbols("data")
        found = known[0] if len(known) == 1 else None
        if len(known) > 1 and required:
            listed = ", ".join(f"`{s.name}`" for s in known)
            missing(ctx, symbol, "`data`", f"write `data = {known[0].name}`; there are {listed}")
    if found is None:
        return None
    ctx.lower_later(found)
    return ctx.name_of(found)


def space_names(info: SpaceInfo) -> dict[str, values.Value]:
    """Return the names that a space defines for its own statements and for its searches' expressions."""
    params: dict[values.TermKey, Fraction] = {("params",): Fraction(1)}
    active: dict[values.TermKey, Fraction] = {
        ("fact", part, "active_params", layer): Fraction(1)
        for part in SUB_BLOCKS
        for layer in info.all_layers
    }
    return {
        "layers": values.Layers(info, info.all_layers),
        "layer": values.Layers(info, ()),
        "attention": values.SubBlocks(info, "attention", info.all_layers),
        "ffn": values.SubBlocks(info, "ffn", info.all_layers),
        **{site: values.ModelEnd(info, site) for site in ENDS},
        "size": values.BuiltIn("size"),
        "params": values.Symbolic(params),
        "active_params": values.Symbolic(active, Fraction(fixed_params(info.shape)), space=info),
    }


def scope_about(ctx: Context, symbol: values.Symbol, info: SpaceInfo) -> values.Scope:
    """Return the scope of a declaration about a space, and record both for editors."""
    ctx.infos[symbol] = info
    scope = ctx.scopes[symbol] = values.Scope(symbol.file).inner(space_names(info))
    return scope


def space_info(ctx: Context, space: values.Symbol) -> SpaceInfo | None:
    """Return the checker's knowledge of a declared space; None if the space or its parent could not be read."""
    ctx.lower(space, nodes.Space)
    return ctx.infos.get(space)
