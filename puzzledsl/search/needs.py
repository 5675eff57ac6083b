"""Score tables and scenarios that a search reads."""

from __future__ import annotations

from dataclasses import dataclass

from puzzledsl.ir import nodes
from puzzledsl.ir.references import terms_of


@dataclass(frozen=True, slots=True)
class Needed:
    """Names of the scores and of the scenarios that a search reads."""

    scores: frozenset[str]
    scenarios: frozenset[str]

    def described(self) -> list[str]:
        """Return what is needed, in words: "score `kl`"."""
        scores = [f"score `{name}`" for name in sorted(self.scores)]
        return scores + [f"costs of scenario `{name}`" for name in sorted(self.scenarios)]


def needed(program: nodes.Program, search: str) -> Needed:
    """Return the scores and scenarios whose tables `search` needs. Raises KeyError for a search that is not declared."""
    terms = list(terms_of(program.searches[search]))
    return Needed(
        scores=frozenset(t.score for t in terms if isinstance(t, nodes.ScoreTerm)),
        scenarios=frozenset(t.scenario for t in terms if isinstance(t, nodes.MetricTerm)),
    )
