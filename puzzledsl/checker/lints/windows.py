"""Lint of windows whose loss a score cannot measure, because its texts are shorter than a scenario's."""

from __future__ import annotations

from collections.abc import Iterator

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.checker.context import Context
from puzzledsl.checker.diagnostics.lints import WindowUnseen
from puzzledsl.checker.lints.vacuous import span_of
from puzzledsl.ir import nodes
from puzzledsl.ir.references import mentioned_scores


def warn_of_windows(ctx: Context, program: nodes.Program) -> None:
    """Report each score that a search minimises or bounds, and that reads less of a text than the search's scenarios are long."""
    told: set[str] = set()
    for search in program.searches.values():
        scenario = max(_scenarios(program, search), key=_length, default=None)
        for name in mentioned_scores(search):
            seen = _tokens_seen(program, program.scores[name])
            if scenario is None or seen is None or seen >= _length(scenario) or name in told:
                continue
            windows = _windows(program.spaces[search.space], _length(scenario))
            if windows:
                told.add(name)
                ctx.report(
                    WindowUnseen(
                        span_of(ctx, program.scores[name].where),
                        score=name,
                        windows=" and ".join(f"{window:,}" for window in windows),
                        seen=seen,
                        scenario=scenario.name,
                        length=_length(scenario),
                        bld=program.scores[name].bld,
                    )
                )


def _scenarios(program: nodes.Program, search: nodes.Search) -> Iterator[nodes.Scenario]:
    """The scenarios that a search's goals and requirements mention."""
    linears = [search.objective, *(p.goal for p in search.preferences)]
    linears += [r.left for r in search.requirements if isinstance(r, nodes.LinearRequirement)]
    for weighted in (weighted for linear in linears for weighted in linear.terms):
        if isinstance(weighted.term, nodes.MetricTerm):
            yield program.scenarios[weighted.term.scenario]


def _length(scenario: nodes.Scenario) -> int:
    return scenario.prompt + scenario.output


def _tokens_seen(program: nodes.Program, score: nodes.Score) -> int | None:
    """The length of the texts that a score compares; None where it reads none, or questions."""
    method = score.method
    if not isinstance(method, nodes.ReplaceOne) or method.tasks is not None or score.bld is None:
        return None
    return min(method.samples, program.blds[score.bld].context)


def _windows(space: nodes.Space, length: int) -> list[int]:
    """Windows of a space that hide something from a text of `length` tokens, ascending; the parent's own aside."""
    found = {a.window for layer in space.layers for a in layer.attention if isinstance(a, GqaAttention)}
    return sorted(window for window in found if window is not None and window < length)
