"""`search s of w { … }`, of another search, and `frontier f of s = sweep(…)`.

`prefer EXPR` maximises EXPR after the objective (`prefer -chat.latency` minimises the latency); a statement about a layer
counts as 1 where it holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from puzzledsl.base.diagnostics import Label, Span
from puzzledsl.base.suggest import closest
from puzzledsl.base.units import Quantity
from puzzledsl.checker.assertions import check_assert
from puzzledsl.checker.bodies import define, misplaced
from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import (
    check_parts,
    declaration,
    head,
    scope_about,
    space_info,
    target,
    thing,
    where,
)
from puzzledsl.checker.declarations.refine import inherited, read_refine
from puzzledsl.checker.diagnostics import name_errors
from puzzledsl.checker.diagnostics import type_errors as types
from puzzledsl.checker.diagnostics.space_errors import OtherSpace
from puzzledsl.checker.expressions.aggregates import apply_builtin
from puzzledsl.checker.expressions.arithmetic import negate, scale, throughput_alone
from puzzledsl.checker.expressions.coercions import as_number, as_whole
from puzzledsl.checker.expressions.layer_tables import layer_spoken_of
from puzzledsl.checker.expressions.linear import is_cost, is_throughput, to_requirement
from puzzledsl.checker.expressions.logic import which_layer
from puzzledsl.checker.expressions.loops import iterate, passes
from puzzledsl.checker.expressions.search_values import (
    Comparison,
    Conjunction,
    Facts,
    Formula,
    Matches,
    Symbolic,
    Tally,
)
from puzzledsl.checker.expressions.settings import from_call, lower_call, read_call
from puzzledsl.checker.expressions.terms import to_linear
from puzzledsl.checker.expressions.values import (
    Boolean,
    Constructed,
    Located,
    Poison,
    Scope,
    Symbol,
    Value,
    describe,
)
from puzzledsl.checker.limits import MAX_REQUIREMENTS
from puzzledsl.checker.spaces.space_info import SpaceInfo, guessed
from puzzledsl.families.config import MAX_LAYERS
from puzzledsl.ir import nodes
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree

DEFAULT_SOLVER = nodes.CpSat()
SETTINGS = KINDS["search"].settings
STATEMENTS = tuple(word for word in KINDS["search"].statements if word not in ("let", "assert"))
MAX_SOLUTIONS = 10_000


def lower_search(ctx: Context, symbol: Symbol) -> nodes.Search | None:
    """A search over a space, or another search with some things changed; its expressions become linear tables' sums."""
    check_parts(ctx, symbol)
    of = target(ctx, symbol)
    base = ctx.lower(of, nodes.Search) if of is not None and of.kind == "search" else None
    space = None if of is None else of if of.kind == "space" else searched_space(ctx, of)
    info = space_info(ctx, space) if space is not None else None
    known = info or guessed(symbol.name)
    body = _Body(ctx, symbol, scope_about(ctx, symbol, known), known)
    for statement in declaration(symbol).body or ():
        body.statement(statement, body.scope, in_for=False)
    if (
        space is None
        or info is None
        or info.guessed
        or (of is not None and of.kind == "search" and base is None)
    ):
        return None
    ctx.lower_later(space)
    return body.node(ctx.name_of(space), base)


def searched_space(ctx: Context, search: Symbol) -> Symbol | None:
    """The space a search is about, through `of` other searches; None where it cannot be told."""
    seen: set[Symbol] = set()
    while search.kind == "search" and search not in seen:
        seen.add(search)
        decl = declaration(search)
        if decl.target is None:
            return None
        value = ctx.value(decl.target, Scope(search.file))
        found = getattr(value, "symbol", None)
        if not isinstance(found, Symbol):
            return None
        search = found
    return search if search.kind == "space" else None


@dataclass(slots=True, eq=False)
class _Body:
    """A search's statements, lowered one by one."""

    ctx: Context
    symbol: Symbol
    scope: Scope
    info: SpaceInfo
    objective: tuple[Literal["minimize", "maximize"], nodes.Linear] | None = None
    objective_at: Span | None = None
    requirements: list[nodes.Requirement] = field(default_factory=list)
    preferences: list[nodes.Preference] = field(default_factory=list)
    solver: nodes.CpSat | nodes.Baseline | None = None
    refine: nodes.Refine | None = None
    set_at: dict[str, Span] = field(default_factory=dict)
    solutions: tuple[int, int] | None = None

    def node(self, space: str, base: nodes.Search | None) -> nodes.Search | None:
        """The whole search; None, reported, where it has no goal."""
        decl = declaration(self.symbol)
        objective = self.objective
        if objective is None and base is not None:
            objective = base.sense, base.objective
        if objective is None:
            if self.objective_at is None and not self.symbol.file.is_damaged(decl.span):
                help = "write `minimize kl`, or `maximize params`"
                what = "`minimize` or `maximize`"
                error = name_errors.MissingPart(
                    self.symbol.span, thing=thing(self.symbol), what=what, help=help
                )
                self.ctx.report(error)
            return None
        count, apart = self.solutions or ((base.solutions, base.apart) if base else (1, 1))
        return nodes.Search(
            **head(self.ctx, self.symbol),
            space=space,
            sense=objective[0],
            objective=objective[1],
            requirements=(*(base.requirements if base else ()), *self.requirements),
            preferences=(*(base.preferences if base else ()), *self.preferences),
            solutions=count,
            apart=apart,
            solver=self.solver or (base.solver if base else DEFAULT_SOLVER),
            refine=self._refine(base),
        )

    def _refine(self, base: nodes.Search | None) -> nodes.Refine | None:
        """This body's `refine`, else the one of the search that it is of."""
        if "refine" in self.set_at or base is None:
            return self.refine
        return inherited(base.refine, self.solver, where(self.ctx, self.symbol))

    # ------------------------------------------------------------ statements

    def statement(self, statement: tree.Stmt, scope: Scope, in_for: bool) -> None:
        """Lower one statement."""
        match statement:
            case tree.Require():
                self._require(statement, scope, in_for)
            case tree.ForAll():
                self._for(statement, scope)
            case tree.Let():
                define(self.ctx, statement, scope)
            case tree.Assert():
                check_assert(self.ctx, statement, scope)
            case _ if in_for:
                misplaced(self.ctx, statement, "a `for`")
            case tree.Objective():
                self._objective(statement, scope)
            case tree.Prefer():
                self._prefer(statement, scope)
            case tree.Solutions():
                self._solutions(statement, scope)
            case tree.Assign(target=tree.Name() as target, op="="):
                self._assign(statement, target, scope)
            case tree.Section(name=name):
                error = name_errors.UnknownKey(name.span, thing=thing(self.symbol), name=name.text, help=_HAS)
                self.ctx.report(error)
            case _:
                misplaced(self.ctx, statement, thing(self.symbol))

    def _assign(self, statement: tree.Assign, target: tree.Name, scope: Scope) -> None:
        key = self._setting(target)
        if key is None:
            return
        if key in self.set_at:
            label = Label(self.set_at[key], "first set here")
            self.ctx.report(name_errors.DuplicateKey(target.span, name=key, secondary=[label]))
            return
        self.set_at[key] = target.span
        assert not isinstance(statement.value, tree.Pattern | tree.PatternChoice)
        if key == "refine":
            self.refine = read_refine(self.ctx, statement.value, scope, SETTINGS[key])
            return
        call = read_call(self.ctx, statement.value, scope, SETTINGS[key])
        self.solver = None if call is None else _solver(self.ctx, call)

    def _setting(self, target: tree.Name) -> str | None:
        """The setting of a name, a misspelt one reported; None where it is not one."""
        if target.text in SETTINGS:
            return target.text
        near = closest(target.text, (*SETTINGS, *(word for word in STATEMENTS if word != "for")))
        meant = near if near in SETTINGS else None  # the others are statements, written without `=`
        help = f"did you mean `{near}`?" if near else _HAS
        got = target.text
        error = name_errors.UnknownKey(target.span, thing=thing(self.symbol), name=got, near=meant, help=help)
        self.ctx.report(error)
        return meant

    def _for(self, statement: tree.ForAll, scope: Scope) -> None:
        """Each instance of a `for` with its variable bound; stops at the first with a mistake."""
        ctx = self.ctx
        if isinstance(statement.domain, tree.BadExpr):
            return
        collection = ctx.value(statement.domain, scope)
        before = len(ctx.sink.items)
        for item in iterate(ctx, collection, statement.domain.span):
            inner = scope.inner({statement.variable.text: item})
            if passes(ctx, statement.where, inner):
                for each in statement.body:
                    self.statement(each, inner, in_for=True)
            if len(ctx.sink.items) > before:
                return
            if len(self.requirements) > MAX_REQUIREMENTS:
                span = statement.domain.span
                ctx.report(
                    name_errors.TooMuch(span, what="this `for`", limit=f"{MAX_REQUIREMENTS:,} requirements")
                )
                return

    def _require(self, statement: tree.Require, scope: Scope, in_for: bool) -> None:
        ctx, span = self.ctx, statement.condition.span
        value = ctx.value(statement.condition, scope)
        because = statement.because.value if statement.because else ""
        match value:
            case Poison():
                return
            case Boolean(value=true):
                if not (true and in_for):
                    said = "true" if true else "false"
                    error = types.NothingToDecide(span, what="this requirement", value=said)
                    ctx.report(error)
            case Formula() | Conjunction():
                items = value.items if isinstance(value, Conjunction) else (value,)
                self.requirements += [self._requirement(item, span, because) for item in items]
            case Matches():
                which_layer(ctx, value, span)
            case _:
                wanted = "a comparison or a statement about a layer"
                got = describe(value)
                help = _require_help(ctx, value, span)
                ctx.report(types.NotARequirement(span, keyword="require", wanted=wanted, got=got, help=help))

    def _against_the_grain(self, goal: Symbolic, span: Span, keyword: str) -> None:
        """Warn of a goal all of whose terms are better the other way round."""
        sign = -1 if keyword == "minimize" else 1
        wanted = {sign * (1 if coefficient > 0 else -1) for coefficient in goal.terms.values()}
        if wanted != {-1 if all(map(is_throughput, goal.terms)) else 1}:
            return
        if not all(is_throughput(key) or is_cost(key) for key in goal.terms):
            return
        more, less = ("less", "more") if wanted == {-1} else ("more", "less")
        text = self.ctx.source(span)
        what = text.removeprefix("-").strip()
        single = len(goal.terms) == 1
        if keyword == "prefer":
            instead = what if text.startswith("-") else f"-{what}" if single else f"-({what})"
        else:
            instead = f"{'maximize' if keyword == 'minimize' else 'minimize'} {text}"
        help = f"write `{'prefer ' * (keyword == 'prefer')}{instead}`"
        error = types.AgainstTheGrain(span, keyword=keyword, direction=more, what=what, other=less, help=help)
        self.ctx.report(error)

    def _own_scores(self, value: Symbolic, span: Span) -> None:
        """Report scores of another space: their tables know nothing of this one's alternatives."""
        for key in value.terms:
            symbol = self.ctx.taken.get(str(key[1])) if key[0] == "score" else None
            score = self.ctx.lower(symbol, nodes.Score) if symbol is not None else None
            if score is not None and not self.info.guessed and score.space != self.info.name:
                wanted = self.info.name
                help = f"score this space's own pieces, or search `{score.space}`"
                error = OtherSpace(span, name=score.name, got=score.space, wanted=wanted, help=help)
                self.ctx.report(error)

    def _requirement(self, item: Comparison | Formula, span: Span, because: str) -> nodes.Requirement:
        if isinstance(item, Formula):
            return nodes.LogicRequirement(formula=item.logic, because=because, where=self.ctx.where(span))
        self._own_scores(item.left, item.span)
        left, bound = self.ctx.where(item.span), self.ctx.where(item.bound_span)
        return to_requirement(self.ctx, item, because, left, bound)

    # ------------------------------------------------------------ goals

    def _objective(self, statement: tree.Objective, scope: Scope) -> None:
        span = statement.span
        if self.objective_at is not None:
            label = Label(self.objective_at, "the first goal")
            help = "a second goal can be a bound (`require`) or come after the first (`prefer`)"
            self.ctx.report(
                name_errors.DuplicateKey(span, name="minimize` or `maximize", secondary=[label], help=help)
            )
            return
        self.objective_at = span
        value = self.ctx.value(statement.expression, scope)
        goal = self._goal(value, statement.expression.span, statement.sense)
        if goal is not None:
            self.objective = statement.sense, to_linear(goal)

    def _prefer(self, statement: tree.Prefer, scope: Scope) -> None:
        ctx, span = self.ctx, statement.condition.span
        value = ctx.value(statement.condition, scope)
        if isinstance(value, Formula) and layer_spoken_of(value) is None:
            wanted, got = "an amount or a statement about one layer", "a statement about several layers"
            help = "write `require` where it must hold"
            error = types.NotARequirement(span, keyword="prefer", wanted=wanted, got=got, help=help)
            ctx.report(error)
            return
        if isinstance(value, Matches | Formula):
            call = tree.Call(span=span, function=tree.Name(span=span, text="count"), arguments=())
            value = apply_builtin(ctx, "count", [Located(value, span)], call)
        elif isinstance(value, Conjunction):
            help = "write `prefer -x` for less of x, `prefer x` for more; `require` bounds it"
            wanted = "an amount to have more of"
            error = types.NotARequirement(span, keyword="prefer", wanted=wanted, got="a bound", help=help)
            ctx.report(error)
            return
        goal = self._goal(value, span, "prefer")
        if goal is None:
            return
        because = statement.because.value if statement.because else ""
        lowered = all(c < 0 for c in goal.terms.values())
        sense: Literal["minimize", "maximize"] = "minimize" if lowered else "maximize"
        linear = to_linear(scale(goal, Fraction(-1)) if lowered else goal)
        where_ = ctx.where(span)
        self.preferences.append(nodes.Preference(goal=linear, sense=sense, because=because, where=where_))

    def _goal(self, value: Value, span: Span, keyword: str) -> Symbolic | None:
        """Sum that a goal optimises; None, reported, where it is no amount or nothing the search decides."""
        ctx = self.ctx
        if isinstance(value, Conjunction | Formula | Boolean | Matches):
            got = describe(value)
            wanted = "an amount, such as a score, a metric or `params`"
            ctx.report(types.NotARequirement(span, keyword=keyword, wanted=wanted, got=got))
            return None
        number = as_number(ctx, value, span, f"what `{keyword}` takes")
        if number is None:
            return None
        if isinstance(number, Quantity) or not number.terms:
            shown = str(number) if isinstance(number, Quantity) else str(number.constant)
            ctx.report(types.NothingToDecide(span, what="this goal", value=shown))
            return None
        fast = any(is_throughput(key) for key in number.terms)
        if fast and len(number.terms) > 1:
            throughput_alone(ctx, number, span)
            return None
        self._own_scores(number, span)
        self._against_the_grain(number, span, keyword)
        if fast:
            factor = next(iter(number.terms.values()))
            unit = Symbolic({key: Fraction(1) for key in number.terms}, Fraction(0), number.dimension)
            return unit if factor > 0 else _negative(unit)
        return number

    def _solutions(self, statement: tree.Solutions, scope: Scope) -> None:
        ctx = self.ctx
        if self.solutions is not None:
            ctx.report(name_errors.DuplicateKey(statement.span, name="solutions"))
            return
        place = statement.count.span
        count = as_whole(
            ctx, ctx.value(statement.count, scope), place, "the number of solutions", 1, MAX_SOLUTIONS
        )
        apart: int | None = 1
        if statement.apart is not None:
            most = MAX_LAYERS if self.info.guessed else self.info.shape.layers
            value, place = ctx.value(statement.apart, scope), statement.apart.span
            apart = as_whole(ctx, value, place, "the layers two solutions differ in", 1, most)
        self.solutions = (count or 1, apart or 1)


_HAS = f"a search has {', '.join(f'`{word}`' for word in STATEMENTS)}, " + " and ".join(
    f"`{name} = …`" for name in SETTINGS
)


def _negative(value: Symbolic) -> Symbolic:
    found = negate(value)
    assert isinstance(found, Symbolic)
    return found


def _require_help(ctx: Context, value: Value, span: Span) -> str:
    text = ctx.source(span)
    if isinstance(value, Symbolic | Tally):
        return f"write a bound: `{text} <= …`"
    if isinstance(value, Facts):
        return f"add them up and bound them: `sum({text}) <= …`"
    return ""


def _solver(ctx: Context, call: Constructed) -> nodes.CpSat | nodes.Baseline | None:
    form = SETTINGS["solver"].calls[call.name]
    if form.node is not None:
        solver: nodes.CpSat | None = lower_call(ctx, call, form)
        return solver
    settings = from_call(ctx, call, form)
    seed = settings.read("seed") if "seed" in settings.table else 0
    return nodes.Baseline.model_validate({"kind": call.name, "seed": seed})
