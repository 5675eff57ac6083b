"""Lints: legal but probably unintended. They run only on a program without errors."""

from __future__ import annotations

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.base.diagnostics import Args, Fix, Span
from puzzledsl.checker import errors
from puzzledsl.checker.context import Context
from puzzledsl.checker.expressions.operators import FLIPPED
from puzzledsl.checker.expressions.values import Symbol
from puzzledsl.checker.names.occurrences import occurrences
from puzzledsl.ir import nodes
from puzzledsl.ir.metric_records import METRICS
from puzzledsl.ir.references import mentioned_scores, references
from puzzledsl.syntax import tree


def warn(ctx: Context, program: nodes.Program) -> None:
    """Report every warning of a program without errors."""
    for warning in ctx.warnings:
        ctx.report(warning)
    warn_of_unused(ctx, program)
    warn_of_direction(ctx, program)
    warn_of_windows(ctx, program)
    warn_of_few_tokens(ctx, program)


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
