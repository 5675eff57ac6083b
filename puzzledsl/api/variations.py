"""One search with other requirements, asked again and again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from fractions import Fraction

    from puzzledsl.api.session import Session
    from puzzledsl.ir.nodes import LinearRequirement, Requirement, Search
    from puzzledsl.ir.tables import SearchResult, WhyResult
    from puzzledsl.report.subject import Subject


SOLVE_S, EXPLAIN_S, WHY_S = 60.0, 20.0, 20.0


class Variations:
    """Answers to a search with other requirements. Each is proven, or has its gap, and is verified; nothing is written.

    Requirements are those of `search`, changed copies of them, or fewer; what `pzl explore` shows comes from here.
    """

    def __init__(self, session: Session, search: str) -> None:
        """Read the tables of a search. `Program.variations` makes variations."""
        from puzzledsl.search.sensitivity.why import Variations

        session.ready_search(search, "solve")
        self._session, self._name = session, search
        self._engine = Variations(session.tables_of(search))

    @property
    def search(self) -> Search:
        """The search as the program declares it."""
        return self._engine.builder.tables.search

    def solve(self, requirements: Iterable[Requirement], *, time_s: float = SOLVE_S) -> SearchResult:
        """Solve the search with these requirements instead of its own. Of an infeasible one no conflict is sought.

        Args:
            requirements: What the child must meet: the search's own, changed copies of them, or fewer.
            time_s: Seconds. An answer that is not proven by then has its gap.

        Returns:
            The verified answer.
        """
        return self._engine.solve(tuple(requirements), time_s)

    def explain(self, requirements: Iterable[Requirement], *, time_s: float = EXPLAIN_S) -> SearchResult:
        """Solve as `solve` does; of an infeasible search find the smallest conflict and the smallest way out.

        Args:
            requirements: What the child must meet.
            time_s: Seconds for the answer, and again for the conflict.

        Returns:
            The answer with its `conflict`, and its `relaxation` if there is one.
        """
        return self._engine.explain(tuple(requirements), time_s)

    def why(
        self,
        requirements: Iterable[Requirement],
        layer: int,
        sub_block: Literal["attention", "ffn"] | None = None,
        *,
        time_s: float = WHY_S,
    ) -> WhyResult | SearchResult:
        """Prove what every other choice of one layer would cost under these requirements.

        Args:
            requirements: What the child must meet.
            layer: The layer, from 0.
            sub_block: One sub-block of it. Default: both.
            time_s: Seconds. Regrets that are not proven by then are given between bounds.

        Returns:
            The regrets; the answer itself where no child meets the requirements.

        Raises:
            ValueError: The parent has no such layer.
        """
        from puzzledsl.ir.tables import WhyResult

        self._session.known_place(self._name, layer, sub_block)
        result = self._engine.why(tuple(requirements), layer, time_s)
        if not isinstance(result, WhyResult):
            return result
        kept = tuple(s for s in result.sub_blocks if sub_block in (None, s.sub_block))
        return result.model_copy(update={"sub_blocks": kept})

    def extent(self, requirement: LinearRequirement) -> tuple[Fraction, Fraction]:
        """Least and greatest value that the left side of a requirement has in the space: base units, or times the parent's.

        Args:
            requirement: One of the search's, or a changed copy.

        Returns:
            Both ends. Other requirements do not count.

        Raises:
            ValueError: The requirement is a ratio, and the parent's value is 0.
        """
        return self._engine.extent(requirement)

    def subject(self, requirements: Iterable[Requirement], result: SearchResult) -> Subject:
        """Return the search with these requirements and an answer to them: what pictures of `puzzledsl.report` are drawn from.

        Args:
            requirements: What was asked for.
            result: The answer.

        Returns:
            The search with its tables.
        """
        from puzzledsl.pipeline.inputs import costs_of, scores_of
        from puzzledsl.report.subject import Artefacts, Subject

        name, context = self._name, self._session.context
        search = context.program.searches[name].model_copy(update={"requirements": tuple(requirements)})
        program = context.program.model_copy(update={"searches": {**context.program.searches, name: search}})
        costs, scores = {search.space: costs_of(context, search.space)}, scores_of(context, name)
        return Subject(Artefacts(program, results={name: result}, costs=costs, scores=scores), name)

    def __repr__(self) -> str:
        return f"<Variations of {self._name}>"
