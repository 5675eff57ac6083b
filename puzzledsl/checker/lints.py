"""Lints: legal but probably unintended. They run only on a program without errors.

Layers choose independently, so the extremes of each layer are those of the child. Nothing is said where this does not decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.base.diagnostics import Args, Fix, Label, Span
from puzzledsl.base.frozen import record
from puzzledsl.base.units import COUNT, Dimension, format_quantity
from puzzledsl.checker import errors
from puzzledsl.checker.context import Context
from puzzledsl.checker.expressions.layer_tables import one_of
from puzzledsl.checker.expressions.numbers import UNITS
from puzzledsl.checker.expressions.operators import FLIPPED
from puzzledsl.checker.expressions.values import VALUES, SourceFile, Symbol, article
from puzzledsl.checker.names.occurrences import occurrences
from puzzledsl.ir import logic, nodes
from puzzledsl.ir.facts import fact, fixed_params, untied_params
from puzzledsl.ir.logic import Pair, Truth, compared, layers_of, layers_of_term, unbounded
from puzzledsl.ir.metric_records import METRICS
from puzzledsl.ir.references import mentioned_scores, references
from puzzledsl.ir.tables import EndsAssignment
from puzzledsl.language.words import SPACE_WORDS
from puzzledsl.syntax import tree

Layers = Sequence[nodes.LayerChoice]
Contribution = Callable[[tuple[AttentionAlternative, FfnAlternative], nodes.Shape], Fraction]
"""The contribution of a layer's choice, in a layer of a shape."""


def warn(ctx: Context, program: nodes.Program) -> None:
    """Report every warning of a program without errors."""
    for warning in ctx.warnings:
        ctx.report(warning)
    for file in ctx.loader.files.values():
        if not file.is_std and not file.module.broken:
            warn_of_shadowing(ctx, file)
    warn_of_unused(ctx, program)
    warn_of_exclusive(ctx, program, warn_of_vacuous(ctx, program))
    warn_of_direction(ctx, program)
    warn_of_windows(ctx, program)
    warn_of_few_tokens(ctx, program)


def warn_of_vacuous(ctx: Context, program: nodes.Program) -> set[nodes.Where]:
    """Report bounds that exclude no child, or every child; return the places of these. A `for` is reported as one."""
    impossible: set[nodes.Where] = set()
    judged: set[tuple[int, str]] = set()
    for search in program.searches.values():
        space = program.spaces[search.space]
        shape, layerwise = program.parents[space.parent].shape, ctx.once(Layerwise, space.layers, space.ends)
        instances: dict[tuple[nodes.Where, int], list[tuple[Truth, str, str]]] = {}
        for requirement in search.requirements:
            if (id(requirement), space.name) in judged:  # a search of another has the same requirements
                continue
            judged.add((id(requirement), space.name))
            if isinstance(requirement, nodes.LinearRequirement):
                key = requirement.bound_where, id(requirement)
                found = _judged(ctx, requirement, space, shape)
            else:
                key = requirement.where, 0
                verdict = ctx.once(layerwise.verdict, requirement.formula)
                help = f"no choice of the layers makes it {'false' if verdict else 'true'}"
                found = verdict, f"`{requirement.where.text}`", help
            instances.setdefault(key, []).append(found)
        for (place, _), all_found in instances.items():
            never = next((each for each in all_found if each[0] is False), None)
            if never is not None:
                impossible.add(place)
            if never is not None or all(verdict for verdict, _, _ in all_found):
                _, bound, help = never or all_found[0]
                kind = errors.AlwaysHolds if never is None else errors.NeverHolds
                ctx.report(kind(ctx.span_of(place), space=space.name, bound=bound, help=help))
    return impossible


def _judged(
    ctx: Context, requirement: nodes.LinearRequirement, space: nodes.Space, shape: nodes.Shape
) -> tuple[Truth, str, str]:
    """Return True if all children meet a bound, False if none does, None if undecided; with the bound in words and the reason."""
    left, bound, what = requirement.left, requirement.limit, requirement.where.text
    found = ctx.once(reachable, left, space.layers, shape, space.ends)
    if found is None:
        return None, "", ""
    if requirement.parent_ratio is not None:
        of_parent = ctx.once(reachable, left, (nodes.LayerChoice.of_parent(),) * shape.layers, shape)
        bound *= of_parent.low if of_parent is not None else 1
    verdict = compared((found.low, found.high), requirement.op, bound)
    if verdict is None and requirement.op == "==" and found.values and bound not in found.values:
        return False, f"`{what} == {requirement.bound_where.text}`", one_of(what, found.values)
    low, high = (format_quantity(end, COUNT) for end in (found.low, found.high))
    text = f"`{what}` is " + (f"at most {high}" if bound >= found.high else f"at least {low}")
    return verdict, text, f"it goes from {low} to {high}"


@record
class Reachable:
    """The least and the greatest value of a sum over a space's children; `values`: all, of a sum about one layer."""

    low: Fraction
    high: Fraction
    values: frozenset[Fraction]


def reachable(
    linear: nodes.Linear, layers: Layers, shape: nodes.Shape, ends: nodes.EndsChoice | None = None
) -> Reachable | None:
    """Return what a sum comes to over a space's children; None if it needs costs or scores."""
    figures = [figure for w in linear.terms if (figure := _figure(w.term)) is not None]
    if len(figures) < len(linear.terms):
        return None
    terms = [
        (w.coefficient, figure, layers_of_term(w.term) or range(len(layers)))
        for w, figure in zip(linear.terms, figures, strict=True)
    ]
    params = sum((w.coefficient for w in linear.terms if isinstance(w.term, nodes.ParamsTerm)), Fraction(0))
    start = linear.constant + params * fixed_params(shape)
    memo: dict[tuple[int, ...], frozenset[Fraction]] = {}
    totals = []
    for layer, choice in enumerate(layers):
        own, here = shape.at(layer), [(c, figure) for c, figure, members in terms if layer in members]
        key = (id(choice), id(own), *(id(figure) for _, figure in here))
        if here and key not in memo:
            pairs = [(a, f) for a in choice.attention for f in choice.ffn]
            memo[key] = frozenset(sum(c * of(pair, own) for c, of in here) + Fraction(0) for pair in pairs)
        if here:
            totals.append(memo[key])
    if ends is not None and params:
        names = (name.split("/") for name in ends.offered)
        totals.append(frozenset(params * untied_params(shape, *both) for both in names))
    values = frozenset(start + own for own in totals[0]) if len(totals) == 1 else frozenset[Fraction]()
    return Reachable(start + sum(map(min, totals)), start + sum(map(max, totals)), values)


def _figure(term: nodes.Term) -> Contribution | None:
    """Return the function from a layer's choice to its contribution to a term; None for metrics and scores."""
    match term:
        case nodes.ParamsTerm():
            return lambda pair, own: Fraction(pair[0].params(own) + pair[1].params(own))
        case nodes.FactTerm(sub_block=sub_block, attribute=attribute):
            return lambda pair, own: Fraction(fact(pair[sub_block == "ffn"], attribute, own))
        case nodes.CountTerm(sub_block=sub_block, alternatives=names):
            return lambda pair, own: Fraction(pair[sub_block == "ffn"].name in names)
        case nodes.TableTerm() as table:
            return lambda pair, own: table.value(pair[0].name, pair[1].name)
        case _:
            return None


class Layerwise:
    """Possible truths of formulas over a space whose layers choose independently."""

    def __init__(self, layers: Layers, ends: nodes.EndsChoice | None = None) -> None:
        self.layers: list[nodes.LayerChoice | nodes.EndsChoice] = [*layers, *filter(None, [ends])]
        self._known: dict[tuple[int, nodes.Logic], Truth] = {}

    def verdict(self, formula: nodes.Logic) -> Truth:
        """True for a formula that every child meets, False for one that none does; None where this cannot be told."""
        layers = layers_of(formula)
        if len(layers) <= 1:
            layer = min(layers, default=0)
            choice = self.layers[layer]
            key = id(choice), formula
            if key not in self._known:
                found = (logic.holds(formula, {layer: pair}) for pair in _pairs(choice))
                first = next(found, None)
                self._known[key] = first if all(truth == first for truth in found) else None
            return self._known[key]
        match formula:
            case nodes.Is() | nodes.Same() | nodes.Compare():
                return None
            case nodes.Distinct():
                return logic.holds(formula, {})
            case _:
                return logic.of_parts(formula, self.verdict)


def _pairs(choice: nodes.LayerChoice | nodes.EndsChoice) -> Iterator[logic.AnyChoice]:
    if isinstance(choice, nodes.EndsChoice):
        yield from map(EndsAssignment.of, choice.offered)
        return
    yield from (Pair(a.name, f.name) for a in choice.attention for f in choice.ffn)


_DIMENSIONS: dict[str, Dimension] = {name: dimension for dimension, name in UNITS.items()}
POSITIVE = (nodes.MetricTerm, nodes.ParamsTerm)
"""Terms of which the parent's value is above zero, so that multiples of it are in the order of their factors."""


@record
class _End:
    """One end of the interval that a requirement allows `about` a quantity, and its text in messages."""

    about: object
    value: Fraction
    is_upper: bool
    text: str
    strict: bool = False

    def excludes(self, other: _End) -> bool:
        """Return True if no value is within both this end and one on the other side."""
        low, high = (other, self) if self.is_upper else (self, other)
        return low.value > high.value or (low.value == high.value and (low.strict or high.strict))

    def __str__(self) -> str:
        at, beyond = ("at most", "less than") if self.is_upper else ("at least", "more than")
        return f"{beyond if self.strict else at} {self.text}"


def warn_of_exclusive(ctx: Context, program: nodes.Program, impossible: set[nodes.Where]) -> None:
    """Report each bound that leaves nothing of an earlier one's; those at places `impossible` are reported already."""
    for search in program.searches.values():
        tightest: dict[tuple[object, bool], tuple[_End, Span]] = {}
        for requirement in search.requirements:
            where, ends = _ends(ctx, requirement)
            ends, span = [] if where in impossible else ends, ctx.span_of(where)
            sides = ((end, tightest.get((end.about, not end.is_upper))) for end in ends)
            opposite = ((end, *side) for end, side in sides if side is not None)
            apart = next((each for each in opposite if each[0].excludes(each[1])), None)
            if apart is not None:
                low, high = sorted(apart[:2], key=lambda end: end.is_upper)
                other = apart[2]
                is_near = other != span and other.file == span.file
                said: Args = {"space": search.space, "low": str(low), "high": str(high)}
                said |= {"secondary": [Label(other, "the other bound")] if is_near else []}
                ctx.report(errors.ExcludeEachOther(span, **said))
            for end in ends:
                key, sign = (end.about, end.is_upper), -1 if end.is_upper else 1
                if key not in tightest or sign * end.value > sign * tightest[key][0].value:
                    tightest[key] = end, span


def _ends(ctx: Context, requirement: nodes.Requirement) -> tuple[nodes.Where, list[_End]]:
    """Return the place of a requirement's bound, and the ends of the interval that it allows; none where it bounds nothing."""
    if isinstance(requirement, nodes.LinearRequirement):
        r, is_multiple = requirement, requirement.parent_ratio is not None
        return r.bound_where, ctx.once(_ends_of_linear, r.left, r.op, r.limit, r.unit, is_multiple)
    figure, ends = requirement.formula, list[_End]()
    if isinstance(figure, nodes.Runs | nodes.Longest | nodes.Distinct):
        sides = (figure.at_least or None, False), (figure.at_most, True)
        ends += [_End(unbounded(figure), Fraction(n), up, str(n)) for n, up in sides if n is not None]
    return requirement.where, ends


def _ends_of_linear(left: nodes.Linear, op: str, limit: Fraction, unit: str, is_multiple: bool) -> list[_End]:
    lead = min(left.terms, key=lambda weighted: repr(weighted.term)).coefficient
    about = frozenset((weighted.term, weighted.coefficient / lead) for weighted in left.terms), is_multiple
    if is_multiple:
        if left.constant or not all(isinstance(w.term, POSITIVE) and w.coefficient > 0 for w in left.terms):
            return []
        value, text = limit, f"{float(limit):.6g}x"
    else:
        value = (limit - left.constant) / lead
        text = format_quantity(value, _DIMENSIONS.get(unit, COUNT), 6)
    sides = (False, True) if op == "==" else ((op[0] == "<") == (lead > 0),)
    return [_End(about, value, is_upper, text, strict=op in ("<", ">")) for is_upper in sides]


def warn_of_direction(ctx: Context, program: nodes.Program) -> None:
    """Report bounds in the wrong direction that the parent meets; bounds on both sides ask for a range, and are not reported."""
    for search in program.searches.values():
        bounds = [r for r in search.requirements if isinstance(r, nodes.LinearRequirement)]
        sides = {(bound.left, bound.op[0]) for bound in bounds}
        for requirement in bounds:
            op, what, bound = requirement.op, requirement.where.text, requirement.bound_where.text
            other, direction = ("<", "less") if op[0] == ">" else (">", "more")
            if _is_wrong_way_round(requirement) and (requirement.left, other) not in sides:
                said: Args = {"bound": f"{what} {op} {bound}", "what": what, "direction": direction}
                said |= {"instead": f"{what} {FLIPPED[op]} {bound}"}
                ctx.report(errors.WrongWayRound(ctx.span_of(requirement.bound_where), **said))


def _is_wrong_way_round(requirement: nodes.LinearRequirement) -> bool:
    """True for a multiple of the parent's that the parent meets and that only better children miss."""
    ratio, left = requirement.parent_ratio, requirement.left
    if ratio is None or len(left.terms) != 1 or left.constant or left.terms[0].coefficient != 1:
        return False
    match left.terms[0].term:
        case nodes.MetricTerm(metric=metric) if METRICS[metric].better == "more":
            return ratio >= 1 if requirement.op == "<=" else requirement.op == "<" and ratio > 1
        case nodes.MetricTerm() | nodes.ParamsTerm():
            return ratio <= 1 if requirement.op == ">=" else requirement.op == ">" and ratio < 1
        case _:
            return False


_NEVER_AN_END = {"let", "param", "fn", "parent", "hardware", "data"}
"""Kinds that are useful only to other declarations; a space, a score or an export can be the purpose of a program."""


def warn_of_shadowing(ctx: Context, file: SourceFile) -> None:
    """Report the names of one file that hide others. The variable of a comprehension is left alone: it is seen nowhere else."""
    for occurrence in occurrences(file):
        span, name, before = occurrence.span, occurrence.name, file.names.get(occurrence.name)
        if occurrence.role != "declares" or isinstance(occurrence.node, tree.Comprehension):
            continue
        is_local = before is not occurrence.symbol
        if is_local and isinstance(before, Symbol):
            label = Label(before.span, "hidden there")
            what = f"{article(before.kind)} of that name"
            ctx.report(errors.Shadowing(span, name=name, what=what, secondary=[label]))
        elif name in VALUES or (is_local and name in SPACE_WORDS):
            ctx.report(errors.Shadowing(span, name=name, what="a word of the language"))


def warn_of_unused(ctx: Context, program: nodes.Program) -> None:
    """Report unused names of the main file. A file without a search is a library, whose names are for others: skipped."""
    if not program.searches:
        return
    found = [(o, o.symbol) for o in occurrences(ctx.root) if isinstance(o.symbol, Symbol)]
    used = {s.place for o, s in found if o.role == "uses" and not isinstance(o.item, tree.Use)}
    tables = (program.data, program.scenarios, program.spaces, program.blds, program.scores)
    later = (program.searches, program.uptrains, program.evals, program.exports)
    # the names that declarations refer to, explicitly or by default
    referred = {name for table in (*tables, *later) for node in table.values() for name in references(node)}
    imports: dict[int, tuple[tree.Use, list[Span]]] = {}
    for occurrence, symbol in found:
        if symbol.place in used or symbol.name.startswith("_"):
            continue
        if isinstance(occurrence.item, tree.Use) and occurrence.role == "uses":
            imports.setdefault(id(occurrence.item), (occurrence.item, []))[1].append(occurrence.span)
        elif occurrence.role == "declares" and symbol.kind in _NEVER_AN_END and symbol.name not in referred:
            ctx.report(errors.UnusedName(symbol.span, kind=symbol.kind, name=symbol.name))
    for use, unused in imports.values():
        for place, name in ((place, name) for place, name in enumerate(use.names) if name.span in unused):
            start, end = name.span.start, name.span.end
            if place + 1 < len(use.names):
                end = use.names[place + 1].span.start
            elif place:
                start = use.names[place - 1].span.end
            fix = Fix.replace(start.to(end), "", "leave it out")
            if len(unused) == len(use.names):
                fix = Fix.replace(use.span, "", "remove this `use`", safe=False)
            ctx.report(errors.UnusedUse(name.span, name=name.text, path=use.path.value, fixes=[fix]))


def warn_of_windows(ctx: Context, program: nodes.Program) -> None:
    """Report each score that a search minimises or bounds, and that reads less of a text than the search's scenarios are long."""
    told: set[str] = set()
    for search in program.searches.values():
        linears = [search.objective, *(p.goal for p in search.preferences)]
        linears += [r.left for r in search.requirements if isinstance(r, nodes.LinearRequirement)]
        terms = (weighted.term for linear in linears for weighted in linear.terms)
        scenarios = [program.scenarios[t.scenario] for t in terms if isinstance(t, nodes.MetricTerm)]
        scenario = max(scenarios, key=lambda each: each.prompt + each.output, default=None)
        for name in mentioned_scores(search):
            score, method = program.scores[name], program.scores[name].method
            if scenario is None or score.bld is None or name in told:
                continue
            if not isinstance(method, nodes.ReplaceOne) or method.tasks is not None:
                continue  # it reads no text, or questions
            layers, length = program.spaces[search.space].layers, scenario.prompt + scenario.output
            if (seen := min(method.samples, program.blds[score.bld].context)) >= length:
                continue
            gqas = (a for layer in layers for a in layer.attention if isinstance(a, GqaAttention))
            # those that hide something; the parent's own aside
            if windows := sorted({a.window for a in gqas if a.window is not None and a.window < length}):
                told.add(name)
                said: Args = {"score": name, "seen": seen, "scenario": scenario.name, "bld": score.bld}
                said |= {"windows": " and ".join(f"{window:,}" for window in windows)}
                ctx.report(errors.WindowUnseen(ctx.span_of(score.where), length=length, **said))


def warn_of_few_tokens(ctx: Context, program: nodes.Program) -> None:
    """Report each BLD whose calibration text has fewer tokens for an expert than the expert has channels."""
    for bld in program.blds.values():
        space, calibration = program.spaces[bld.space], bld.calibration_tokens
        each = zip(program.parents[space.parent].shape.each, space.layers, strict=True)
        refitted = (own for own, layer in each if any(isinstance(a, MoeFfn) for a in layer.ffn))
        shapes = [own for own in refitted if _needed(own) > calibration]
        if "ffn" not in bld.sub_blocks or not shapes:
            continue
        own = max(shapes, key=_needed)
        said: Args = {"calibration": calibration, "width": own.expert_width}
        said |= {"seen": calibration * own.top_k // own.experts, "needed": f"{-(-_needed(own) // 1024)}Ki"}
        ctx.report(errors.FewTokensAnExpert(ctx.span_of(bld.where), **said))


def _needed(shape: nodes.Shape) -> int:
    """The tokens that give each expert as many as it has channels, if all experts have equally many."""
    return -(-shape.expert_width * shape.experts // shape.top_k)
