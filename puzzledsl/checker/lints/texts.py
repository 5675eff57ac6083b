"""Lints of texts that are too short: to show the loss caused by a window, or to fit an expert to."""

from __future__ import annotations

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.shape import Shape
from puzzledsl.base.diagnostics import Args
from puzzledsl.checker import errors
from puzzledsl.checker.context import Context
from puzzledsl.ir import nodes
from puzzledsl.ir.references import mentioned_scores

KIBI = 1024


def warn_of_windows(ctx: Context, program: nodes.Program) -> None:
    """Report each score that a search minimises or bounds, and that reads less of a text than the search's scenarios are long."""
    told: set[str] = set()
    for search in program.searches.values():
        linears = [search.objective, *(p.goal for p in search.preferences)]
        linears += [r.left for r in search.requirements if isinstance(r, nodes.LinearRequirement)]
        terms = (weighted.term for linear in linears for weighted in linear.terms)
        scenarios = [program.scenarios[t.scenario] for t in terms if isinstance(t, nodes.MetricTerm)]
        scenario = max(scenarios, key=_length, default=None)
        for name in mentioned_scores(search):
            score = program.scores[name]
            seen = _tokens_seen(program, score)
            if scenario is None or seen is None or seen >= _length(scenario) or name in told:
                continue
            layers, length = program.spaces[search.space].layers, _length(scenario)
            gqas = (a for layer in layers for a in layer.attention if isinstance(a, GqaAttention))
            # those that hide something; the parent's own aside
            if windows := sorted({a.window for a in gqas if a.window is not None and a.window < length}):
                told.add(name)
                said: Args = {"score": name, "seen": seen, "scenario": scenario.name, "bld": score.bld}
                said |= {"windows": " and ".join(f"{window:,}" for window in windows)}
                ctx.report(errors.WindowUnseen(ctx.span_of(score.where), length=length, **said))


def _length(scenario: nodes.Scenario) -> int:
    return scenario.prompt + scenario.output


def _tokens_seen(program: nodes.Program, score: nodes.Score) -> int | None:
    """The length of the texts that a score compares; None where it reads none, or questions."""
    method = score.method
    if not isinstance(method, nodes.ReplaceOne) or method.tasks is not None or score.bld is None:
        return None
    return min(method.samples, program.blds[score.bld].context)


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
        said |= {"seen": calibration * own.top_k // own.experts, "needed": f"{-(-_needed(own) // KIBI)}Ki"}
        ctx.report(errors.FewTokensAnExpert(ctx.span_of(bld.where), **said))


def _needed(shape: Shape) -> int:
    """The tokens that give each expert as many as it has channels, if all experts have equally many."""
    return -(-shape.expert_width * shape.experts // shape.top_k)
