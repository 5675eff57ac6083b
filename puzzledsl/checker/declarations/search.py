"""Lowering of `search s of w { … }`, of a space or another search, and of `frontier f of s = sweep(…)`.

`prefer EXPR` maximises EXPR after the objective (`prefer -chat.latency` minimises the latency); a statement about a layer
counts as 1 where it holds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any, Literal, cast

from puzzledsl.base.diagnostics import Args, Label, Span
from puzzledsl.base.queueing import most_load
from puzzledsl.base.units import Quantity
from puzzledsl.checker import errors
from puzzledsl.checker.context import MAX_REQUIREMENTS, Context
from puzzledsl.checker.declarations import judge
from puzzledsl.checker.declarations.common import Declared, misplaced, shared_statement, space_info
from puzzledsl.checker.expressions import numbers, values
from puzzledsl.checker.expressions.attributes import each_instance
from puzzledsl.checker.expressions.calls import count
from puzzledsl.checker.expressions.layer_tables import layer_spoken_of
from puzzledsl.checker.expressions.logic import refuse_several
from puzzledsl.checker.expressions.operators import Sides, comparable, refuse_batch_ratio, refuse_throughput
from puzzledsl.checker.expressions.settings import Entry, Settings, from_call, lower_call, put, read_call
from puzzledsl.checker.expressions.values import Number, Scope, SpaceInfo, Symbol, Value, guessed
from puzzledsl.families.config import MAX_LAYERS
from puzzledsl.ir import nodes
from puzzledsl.ir.metric_records import METRICS, PER_SECOND
from puzzledsl.ir.references import judged_by, terms_of
from puzzledsl.language.kinds import KINDS
from puzzledsl.syntax import tree

SETTINGS = KINDS["search"].settings
STATEMENTS = tuple(word for word in KINDS["search"].statements if word not in ("let", "assert"))
MAX_SOLUTIONS = 10_000


def lower_search(search: Declared) -> nodes.Search | None:
    """Lower a search of a space, or one that changes another search. None if it has no goal, or what it is of is faulty."""
    ctx, symbol, of = search.ctx, search.symbol, search.of
    base = ctx.lower(of, nodes.Search) if of is not None and of.kind == "search" else None
    space = None if of is None else searched_space(ctx, of)
    known = (space_info(ctx, space) if space is not None else None) or guessed(symbol.name)
    settings = Settings(ctx, search.thing, symbol.span, SETTINGS)
    scope, body = search.scope_about(known), _Body(ctx, search, known, settings)
    for statement in search.decl.body or ():
        ctx.attempt(body.read, statement, scope, False)
    solver, refine = settings.read("solver", None), settings.read("refine", None, _refine)
    if space is None or of is None or known.guessed or (of.kind == "search" and base is None):
        return None
    if base is not None and base.refine is not None and not settings.has("refine"):
        refine = base.refine.model_copy(update={"where": search.where})  # that of the one that inherits
    solver = solver or (base.solver if base else nodes.CpSat())
    realise = settings.read("realise")
    return body.node(base, space=ctx.name_of(space), solver=solver, refine=refine, realise=realise)


def _refine(settings: Settings) -> nodes.Refine | None:
    """Read `refine = measured(24)`; None for `refine = none`."""
    ctx, entry, takes = settings.ctx, settings.entries["refine"], settings.known("refine")
    call = read_call(ctx, entry.expr, entry.scope, takes)
    form = takes.calls[call.name]
    if form.node is None:  # `none`
        from_call(ctx, call, form)
        return None
    return cast(nodes.Refine, lower_call(ctx, call, form, where=ctx.where(entry.expr.span)))


def searched_space(ctx: Context, search: Symbol) -> Symbol | None:
    """Return the space that a search is of, directly or by way of other searches; a space is its own. None if it is unknown."""
    seen: set[Symbol] = set()
    while search.kind == "search" and search not in seen:
        seen.add(search)
        named = Declared(ctx, search).decl.target
        found = named and getattr(ctx.value(named, Scope(search.file)), "symbol", None)
        if not isinstance(found, Symbol):
            return None
        search = found
    return search if search.kind == "space" else None


@dataclass(slots=True, eq=False)
class _Body:
    """A search's statements, lowered one by one."""

    ctx: Context
    search: Declared
    info: SpaceInfo
    settings: Settings
    objective: tuple[Literal["minimize", "maximize"], nodes.Linear] | None = None
    objective_at: Span | None = None
    requirements: list[nodes.Requirement] = field(default_factory=list)
    preferences: list[nodes.Preference] = field(default_factory=list)
    solutions: tuple[int, int] | None = None

    def node(self, base: nodes.Search | None, **given: Any) -> nodes.Search | None:
        """Return the search's node, with what it inherits of `base`; None, reported, without a goal or a score for its judge."""
        objective = self.objective or ((base.sense, base.objective) if base else None)
        if objective is None:
            if self.objective_at is None:
                what, help = "`minimize` or `maximize`", "write `minimize kl`, or `maximize params`"
                self.search.missing(what, help)
            return None
        count, apart = self.solutions or ((base.solutions, base.apart) if base else (1, 1))
        node = nodes.Search(
            **self.search.head(),
            **given,
            sense=objective[0],
            objective=objective[1],
            requirements=(*(base.requirements if base else ()), *self.requirements),
            preferences=(*(base.preferences if base else ()), *self.preferences),
            solutions=count,
            apart=apart,
        )
        node = node.model_copy(update={"requirements": (*node.requirements, *self._sustained(node))})
        refine, own = node.refine, self.settings.has("refine")
        if judged_by(node) and own and refine is not None:
            plain = nodes.Refine(children=refine.children, where=refine.where)
            at, help = self.settings.place("refine"), f"write `refine = measured({refine.children})`"
            if refine != plain:  # its other settings would say nothing
                what = "how children are healed and measured, which their judges say,"
                self.ctx.misplaced(at, what, self.search.thing, help)
        return judge.predicted(self.ctx, self.search, self.info, node, measures=refine is not None or not own)

    def _sustained(self, search: nodes.Search) -> Iterator[nodes.LinearRequirement]:
        """Yield what a search's traffic requires of it: `max_rate >= rate`, and for percentiles a bound on `utilisation`."""
        terms = [term for term in terms_of(search) if isinstance(term, nodes.MetricTerm)]
        for name in dict.fromkeys(term.scenario for term in terms):
            traffic = self.ctx.need(self.ctx.taken[name], nodes.Scenario).traffic
            if traffic is None:
                continue
            late = any(term.scenario == name and METRICS[term.metric].load == "p95" for term in terms)
            most = most_load(traffic.at_most) / traffic.at_most
            rate: Args = {"op": ">=", "bound": traffic.rate, "unit": "requests_per_s"}
            busy, share = {"op": "<=", "bound": most}, f"{float(100 * most):.4g}%"
            bounds = [("max_rate", rate, traffic.where.text), ("utilisation", busy, share)]
            for metric, bound, text in bounds[: 1 + late]:
                term = nodes.MetricTerm(scenario=name, metric=metric)
                requirement = nodes.LinearRequirement(
                    left=nodes.Linear(terms=(nodes.WeightedTerm(coefficient=Fraction(1), term=term),)),
                    **bound,
                    where=traffic.where.model_copy(update={"text": f"{name}.{metric}"}),
                    bound_where=traffic.where.model_copy(update={"text": text}),
                )
                if requirement not in search.requirements:
                    yield requirement

    def read(self, statement: tree.Stmt, scope: Scope, in_for: bool) -> None:
        """Lower one statement. `in_for`: it is in a `for`, which takes requirements, `let`s and assertions alone."""
        match statement:
            case tree.Require():
                self._require(statement, scope, in_for)
            case tree.ForAll():
                each_instance(self.ctx, statement, scope, partial(self._in_for, statement))
            case tree.Let() | tree.Assert():
                shared_statement(self.ctx, statement, scope, self.search.thing)
            case _ if in_for:
                misplaced(self.ctx, statement, "a `for`")
            case tree.Objective():
                self._objective(statement, scope)
            case tree.Prefer():
                self._prefer(statement, scope)
            case tree.Solutions():
                self._solutions(statement, scope)
            case tree.Assign(target=tree.Name() as word, op="=", value=value):
                assert not isinstance(value, tree.Pattern | tree.PatternChoice)
                put(self.settings, word, Entry(value, scope, word.span), tuple(SETTINGS), STATEMENTS)
            case tree.Section(name=name):
                said: Args = {"thing": self.search.thing, "name": name.text}
                self.ctx.report(errors.UnknownKey(name.span, help="a search has no sections", **said))
            case _:
                misplaced(self.ctx, statement, self.search.thing)

    def _in_for(self, loop: tree.ForAll, statement: tree.Stmt, scope: Scope) -> None:
        self.read(statement, scope, in_for=True)
        if len(self.requirements) > MAX_REQUIREMENTS and not isinstance(statement, tree.ForAll):
            self.ctx.too_much(loop.domain.span, "this `for`", f"{MAX_REQUIREMENTS:,} requirements")

    def _require(self, statement: tree.Require, scope: Scope, in_for: bool) -> None:
        ctx, span = self.ctx, statement.condition.span
        value = ctx.sound(statement.condition, scope)
        because = statement.because.value if statement.because else ""
        match value:
            case values.Boolean(value=true):
                if not (true and in_for):
                    said: Args = {"what": "this requirement", "value": "true" if true else "false"}
                    raise ctx.refuse(errors.NothingToDecide(span, **said))
            case values.Formula() | values.Conjunction():
                for item in value.items if isinstance(value, values.Conjunction) else (value,):
                    if isinstance(item, values.Comparison):
                        self._own_scores(item.left, item.span)
                        judge.report_sums_of_drops(ctx, item.left, item.span)
                        judged = judge.is_judged(item.left)
                        to_node = judge.judged_requirement if judged else numbers.to_requirement
                        self.requirements.append(to_node(ctx, item, because))
                    else:
                        said = {"formula": item.logic, "because": because, "where": ctx.where(span)}
                        self.requirements.append(nodes.LogicRequirement(**said))
            case values.Matches():
                refuse_several(ctx, value, span)
            case _:
                text, help = ctx.source(span), ""
                if isinstance(value, values.Symbolic | values.Tally):
                    help = f"write a bound: `{text} <= …`"
                elif isinstance(value, values.Facts):
                    help = f"add them up and bound them: `sum({text}) <= …`"
                raise ctx.wrong(
                    span, "what `require` takes", "a comparison or a statement about a layer", value, help
                )

    def _own_scores(self, value: values.Symbolic, span: Span) -> None:
        """Report scores of another space: their tables know nothing of this one's alternatives."""
        for key in value.terms:
            symbol = self.ctx.taken.get(str(key[1])) if key[0] == "score" else None
            score = self.ctx.lower(symbol, nodes.Score) if symbol is not None else None
            if score is not None and not self.info.guessed and score.space != self.info.name:
                help = f"score this space's own pieces, or search `{score.space}`"
                said: Args = {"name": score.name, "got": score.space, "wanted": self.info.name}
                self.ctx.report(errors.OtherSpace(span, help=help, **said))

    def _objective(self, statement: tree.Objective, scope: Scope) -> None:
        if self.objective_at is not None:
            label = Label(self.objective_at, "the first goal")
            help = "a second goal can be a bound (`require`) or come after the first (`prefer`)"
            said: Args = {"name": "minimize` or `maximize", "secondary": [label]}
            raise self.ctx.refuse(errors.DuplicateKey(statement.span, help=help, **said))
        self.objective_at = statement.span
        value = self.ctx.value(statement.expression, scope)
        goal = self._goal(value, statement.expression.span, statement.sense)
        self.objective = statement.sense, numbers.to_linear(goal)

    def _prefer(self, statement: tree.Prefer, scope: Scope) -> None:
        ctx, span = self.ctx, statement.condition.span
        value = ctx.value(statement.condition, scope)
        if isinstance(value, values.Formula) and layer_spoken_of(value) is None:
            wanted, help = "an amount or a statement about one layer", "write `require` where it must hold"
            raise ctx.wrong(span, "what `prefer` takes", wanted, "a statement about several layers", help)
        if isinstance(value, values.Conjunction):
            help = "write `prefer -x` for less of x, `prefer x` for more; `require` bounds it"
            raise ctx.wrong(span, "what `prefer` takes", "an amount to have more of", "a bound", help)
        if isinstance(value, values.Matches | values.Formula):
            value = count(ctx, [values.Located(value, span)], span)
        goal = self._goal(value, span, "prefer")
        because = statement.because.value if statement.because else ""
        lowered = all(c < 0 for c in goal.terms.values())
        sense: Literal["minimize", "maximize"] = "minimize" if lowered else "maximize"
        linear = numbers.to_linear(numbers.scale(goal, Fraction(-1)) if lowered else goal)
        preference = nodes.Preference(goal=linear, sense=sense, because=because, where=ctx.where(span))
        self.preferences.append(preference)

    def _goal(self, value: Value, span: Span, keyword: str) -> values.Symbolic:
        """Return the sum that a goal optimises; a throughput loses its factor. Refuse constants and what is no amount."""
        ctx = self.ctx
        if isinstance(value, values.Conjunction | values.Formula | values.Boolean | values.Matches):
            raise ctx.wrong(
                span, f"what `{keyword}` takes", "an amount, such as a score, a metric or `params`", value
            )
        number = numbers.as_number(ctx, value, span, f"what `{keyword}` takes")
        if isinstance(number, Quantity):
            raise ctx.refuse(errors.NothingToDecide(span, what="this goal", value=str(number)))
        if key := judge.is_judged(number):
            judge.refuse_judged(ctx, key, span)
        if numbers.is_throughput(number) and len(number.terms) > 1:
            refuse_throughput(ctx, number, span)
        self._own_scores(number, span)
        self._against_the_grain(number, span, keyword)
        if not numbers.is_throughput(number):
            return number
        factor = next(iter(number.terms.values()))
        unit = values.Symbolic({key: Fraction(1) for key in number.terms}, Fraction(0), number.dimension)
        return unit if factor > 0 else numbers.scale(unit, Fraction(-1))

    def _against_the_grain(self, goal: values.Symbolic, span: Span, keyword: str) -> None:
        """Warn of a goal all of whose terms are better the other way round."""
        sign = -1 if keyword == "minimize" else 1
        wanted = {sign * (1 if coefficient > 0 else -1) for coefficient in goal.terms.values()}
        fast = [key[0] == "metric" and key[2] in PER_SECOND for key in goal.terms]
        if wanted != {-1 if all(fast) else 1}:
            return
        costly = {name for name, metric in METRICS.items() if metric.better == "less"}
        costs = (k[0] == "score" or (k[0] == "metric" and k[2] in costly) for k in goal.terms)
        if not all(more or cost for cost, more in zip(costs, fast, strict=True)):
            return
        more, less = ("less", "more") if wanted == {-1} else ("more", "less")
        text = self.ctx.source(span)
        what = text.removeprefix("-").strip()
        if keyword == "prefer":
            negated = f"-{what}" if len(goal.terms) == 1 else f"-({what})"
            instead = f"prefer {what if text.startswith('-') else negated}"
        else:
            instead = f"{'maximize' if keyword == 'minimize' else 'minimize'} {text}"
        said: Args = {"keyword": keyword, "direction": more, "what": what, "other": less}
        self.ctx.report(errors.AgainstTheGrain(span, help=f"write `{instead}`", **said))

    def _solutions(self, statement: tree.Solutions, scope: Scope) -> None:
        ctx = self.ctx
        if self.solutions is not None:
            raise ctx.refuse(errors.DuplicateKey(statement.span, name="solutions"))
        most = MAX_LAYERS if self.info.guessed else self.info.shape.layers

        def read(expr: tree.Expr | None, what: str, high: int) -> int:
            value = None if expr is None else ctx.value(expr, scope)
            return (expr and ctx.attempt(numbers.as_whole, ctx, value, expr.span, what, 1, high)) or 1

        apart = read(statement.apart, "the layers two solutions differ in", most)
        self.solutions = read(statement.count, "the number of solutions", MAX_SOLUTIONS), apart


def lower_frontier(frontier: Declared) -> nodes.Frontier | None:
    """Lower `frontier f of s = sweep(chat.throughput, 1x..3x, points: 20)`."""
    ctx, of = frontier.ctx, frontier.of
    space = searched_space(ctx, of) if of is not None else None
    info = space_info(ctx, space) if space is not None else None
    scope = frontier.scope_about(info or guessed(frontier.symbol.name))
    call = frontier.call()
    scoped = call.scope.inner(scope.names)
    settings = frontier.arguments(call)
    settings.need("metric", "range", help=f"write `{frontier.kind.form}`")
    for key, entry in settings.entries.items():
        if key in ("metric", "range"):
            settings.entries[key] = Entry(entry.expr, scoped, entry.span)
    points = settings.read("points")
    if not settings.has("metric") or not settings.has("range"):
        return None
    swept = ctx.attempt(_swept, settings)
    ends = _ends(settings, None if swept is None else swept[0])
    if swept is None or info is None:
        return None
    term, times = swept[1], ends.low.form == "times"
    if times and isinstance(term, nodes.MetricTerm) and term.metric == "batch":
        refuse_batch_ratio(ctx, settings.place("range"), "write numbers, such as `8..64`")
    sweep: Args = {"low": ends.low.value, "high": ends.high.value, "times_parent": times}
    return nodes.Frontier(**frontier.head(), term=term, **sweep, points=points)


def _swept(settings: Settings) -> tuple[Number, nodes.Term]:
    ctx, what, span = settings.ctx, "what a frontier sweeps", settings.place("metric")
    number = numbers.as_number(ctx, settings.value("metric"), span, what)
    if isinstance(number, values.Symbolic):
        judge.report_sums_of_drops(ctx, number, span)
        if key := judge.is_judged(number):
            judge.refuse_judged(ctx, key, span)
    linear = numbers.to_linear(number) if isinstance(number, values.Symbolic) else nodes.Linear(terms=())
    if len(linear.terms) != 1 or linear.terms[0].coefficient != 1 or linear.constant:
        help = "name it alone: `chat.throughput`, `params`, `kl`, `sum(ffn.width)`"
        raise ctx.wrong(span, what, "one metric, score, sum or count", f"`{ctx.source(span)}`", help)
    return number, linear.terms[0].term


def _ends(settings: Settings, swept: Number | None) -> values.RangeValue:
    ctx, found, span = settings.ctx, settings.value("range"), settings.place("range")
    if not isinstance(found, values.RangeValue):
        raise ctx.wrong(span, "what is swept over", "a range", found, "write `1x..3x`, or `20ms..80ms`")
    low, high = found.low, found.high
    if found.step is not None:
        help = "say how many: `sweep(chat.throughput, 1x..3x, points: 9)`"
        raise ctx.misplaced(span, "`step`", "a sweep", help)
    if swept is not None:
        comparable(ctx, "sweep", swept, low, Sides(settings.place("metric"), span, span))
    if (low.form == "times") != (high.form == "times"):
        left, right = values.describe(low), values.describe(high)
        raise ctx.refuse(errors.UnlikeSum(span, op="..", left=left, right=right))
    if low.value >= high.value:
        raise ctx.beyond(span, "the upper end of a sweep", "above the lower", f"{low}..{high}")
    return found
