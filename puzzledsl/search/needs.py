"""Score tables, scenarios and block influences that a search reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from puzzledsl.ir import nodes
from puzzledsl.ir.references import drops_by_influence, influence_score, terms_of
from puzzledsl.ir.tables import BlockInfluence, ScoreTable


@dataclass(frozen=True, slots=True)
class Needed:
    """Names of the scores, also that of a block influence, and of the scenarios that a search reads."""

    scores: frozenset[str]
    scenarios: frozenset[str]

    def described(self) -> list[str]:
        """Return what is needed, in words: "score `kl`"."""
        scores = [f"score `{name}`" for name in sorted(self.scores)]
        return scores + [f"costs of scenario `{name}`" for name in sorted(self.scenarios)]


def needed(program: nodes.Program, search: str) -> Needed:
    """Return the scores and scenarios whose tables `search` needs. Raises KeyError for a search that is not declared."""
    here = program.searches[search]
    terms = list(terms_of(here))
    influence = influence_score(program, here) if drops_by_influence(here) else None
    read = () if influence is None else (influence,)
    return Needed(
        scores=frozenset((*(t.score for t in terms if isinstance(t, nodes.ScoreTerm)), *read)),
        scenarios=frozenset(t.scenario for t in terms if isinstance(t, nodes.MetricTerm)),
    )


def influence_of(
    program: nodes.Program, search: nodes.Search, scores: Mapping[str, ScoreTable]
) -> BlockInfluence | None:
    """Return the block influence that a search uses; None if its score's table is missing, has none, or is for other layers."""
    name = influence_score(program, search)
    influence = scores[name].influence if name is not None and name in scores else None
    layers = program.spaces[search.space].layers
    return None if influence is None or len(influence.layers) != len(layers) else influence
