"""Check of a search's `solver` against the program's measured scores, at check time, long before scores are computed."""

from __future__ import annotations

from collections.abc import Mapping

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.checker.diagnostics.space_errors import NothingMeasured
from puzzledsl.ir.nodes import (
    Baseline,
    BaselineKind,
    Linear,
    LinearRequirement,
    Program,
    ReplaceOne,
    ScoreTerm,
    Search,
)
from puzzledsl.ir.source_location import span_of

BY_INFLUENCE: frozenset[BaselineKind] = frozenset({"block_influence", "angular_run"})
"""Baselines that drop layers by how little these change the parent's stream."""


def check_solvers(program: Program, files: Mapping[str, str]) -> list[Diagnostic]:
    """Searches whose solver reads what no score of their space measures. `files`: a place's file -> what diagnostics call it."""
    found: list[Diagnostic] = []
    for name, search in program.searches.items():
        if drops_by_influence(search) and influence_score(program, search) is None:
            at = search.where
            span = span_of(at, files.get(at.file))
            solver = search.solver.kind
            found.append(NothingMeasured(span, search=name, solver=solver, space=search.space))
    return found


def drops_by_influence(search: Search) -> bool:
    """True of a search whose solver reads block influences."""
    return isinstance(search.solver, Baseline) and search.solver.kind in BY_INFLUENCE


def influence_score(program: Program, search: Search) -> str | None:
    """Return the score whose block influences a search reads.

    It is the first measured score that its goal and requirements mention, else the first one of its space that is measured
    in the parent.
    """
    for name in (*mentioned_scores(search), *program.scores):
        score = program.scores[name]
        if isinstance(score.method, ReplaceOne) and score.space == search.space:
            return name
    return None


def mentioned_scores(search: Search) -> list[str]:
    """Names of the scores that a search's goals and requirements bound or minimise, in the order written."""
    linears: list[Linear] = [search.objective]
    linears += [r.left for r in search.requirements if isinstance(r, LinearRequirement)]
    linears += [p.goal for p in search.preferences]
    terms = [w.term for linear in linears for w in linear.terms]
    return [term.score for term in terms if isinstance(term, ScoreTerm)]
