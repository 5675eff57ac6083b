"""Measured scores that searches read: the one that `refine` measures children by, the one whose influences a baseline reads."""

from __future__ import annotations

from collections.abc import Iterator

from puzzledsl.ir.nodes import (
    Baseline,
    BaselineKind,
    Frontier,
    Linear,
    LinearRequirement,
    Program,
    Refine,
    ReplaceOne,
    ScoreTerm,
    Search,
)

BY_INFLUENCE: frozenset[BaselineKind] = frozenset({"block_influence", "angular_run"})
"""Baselines that drop layers by how little these change the parent's stream."""


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


def refined_score(program: Program, search: Search) -> str | None:
    """The score that a search minimises alone, where `pzl` measures it on text; None for any other goal."""
    goal = search.objective.terms
    if search.sense != "minimize" or len(goal) != 1 or goal[0].coefficient <= 0:
        return None
    term = goal[0].term
    return term.score if isinstance(term, ScoreTerm) and on_text(program, term.score) else None


def refined_text(program: Program, search: Search) -> str | None:
    """The data that a refining search measures children on: its own, else its score's, else the bld's."""
    score = refined_score(program, search)
    if search.refine is None or score is None:
        return None
    declaration = program.scores[score]
    method, bld = declaration.method, declaration.bld
    own = method.data if isinstance(method, ReplaceOne) else None
    return search.refine.data or own or (None if bld is None else program.blds[bld].data)


def refine_of(frontier: Frontier, search: Search) -> Refine:
    """The settings of a frontier's measuring: the search's, with the frontier's number of children."""
    if search.refine is not None:
        return search.refine.model_copy(update={"children": frontier.children})
    return Refine(method="measured", children=frontier.children, where=frontier.where)


def measured_searches(program: Program) -> Iterator[Search]:
    """Every search around which children are measured, with the settings in its `refine`: its own, or those of its frontiers."""
    yield from (search for search in program.searches.values() if search.refine is not None)
    for frontier in program.frontiers.values():
        search = program.searches[frontier.search]
        if frontier.children and search.refine is None:
            yield search.model_copy(update={"refine": refine_of(frontier, search)})


def on_text(program: Program, score: str) -> bool:
    """Return True for a score that `pzl` measures on text, so that a child can be measured by it too."""
    method = program.scores[score].method
    return isinstance(method, ReplaceOne) and method.metric != "accuracy"
