"""One search with other requirements, asked again and again.

The price of every other choice of a solved search.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from fractions import Fraction

    from puzzledsl.api.answer import Answer
    from puzzledsl.api.session import Session
    from puzzledsl.api.tables import Library
    from puzzledsl.ir.nodes import LinearRequirement, Requirement, Search
    from puzzledsl.ir.tables import Margin, SearchResult, SubBlockRegrets, WhyResult


class Regrets:
    """Proven regrets: how much worse the optimum gets with one alternative fixed and everything else chosen anew."""

    def __init__(self, result: WhyResult) -> None:
        """Wrap a result. `Program.why` makes regrets."""
        self._result = result

    @property
    def result(self) -> WhyResult:
        """The whole artefact, as `pzl why --json` prints it."""
        return self._result

    @property
    def objective(self) -> float:
        """The optimum, in base units or units of the score."""
        return self._result.objective

    @property
    def proven(self) -> bool:
        """True where no child is better than `objective`."""
        return self._result.proven

    @property
    def negligible(self) -> float:
        """A regret of at most this much is not worth choosing for."""
        return self._result.negligible

    @property
    def sub_blocks(self) -> tuple[SubBlockRegrets, ...]:
        """The sub-blocks, each with the alternative that is `chosen` and the `regrets` of all.

        A regret is between `at_least` and `at_most`: both None where no such child meets the requirements, `at_most`
        alone None where none was found in time.
        """
        return self._result.sub_blocks

    @property
    def margins(self) -> tuple[Margin, ...]:
        """The price of each requirement: the optimum's change when its bound moves. Empty for a single layer."""
        return self._result.margins

    def to_frame(self, library: Library | None = None) -> Any:
        """The regrets as a data frame with one row for each alternative of each sub-block.

        Columns: `layer`, `sub_block`, `alternative`, `chosen` (True for the optimum's), `at_least`, `at_most`.
        `library`: "pandas" or "polars"; unless said the one that is imported, else one that is installed (E0671: none is).
        """
        from puzzledsl.api.tables import frame

        rows = [
            {
                "layer": s.layer,
                "sub_block": s.sub_block,
                "alternative": r.alternative,
                "chosen": r.alternative == s.chosen,
                "at_least": r.at_least,
                "at_most": r.at_most,
            }
            for s in self.sub_blocks
            for r in s.regrets
        ]
        return frame(rows, library)

    def __repr__(self) -> str:
        proof = "proven" if self.proven else "not proven"
        return f"<Regrets of {self._result.search}: optimum {self.objective:.6g}, {proof}>"


SOLVE_S, EXPLAIN_S, WHY_S = 60.0, 20.0, 20.0


class Variations:
    """Answers to a search with other requirements. Each is proven, or has its gap, and is verified; nothing is written.

    Requirements are those of `search`, changed copies of them, or fewer; what `pzl explore` shows comes from here.
    """

    def __init__(self, session: Session, search: str) -> None:
        """Read the tables of a search. `Program.variations` makes variations."""
        from puzzledsl.ir.nodes import CpSat
        from puzzledsl.search.sensitivity.why import Variations

        session.ready_search(search, "solve")
        tables = session.tables_of(search)
        if not isinstance(tables.search.solver, CpSat):
            raise ValueError(f"the solver of {search!r} is a heuristic, which proves nothing")
        self._session, self._name = session, search
        self._engine = Variations(tables)

    @property
    def search(self) -> Search:
        """The search as the program declares it."""
        return self._engine.builder.tables.search

    def solve(self, requirements: Iterable[Requirement], *, time_s: float = SOLVE_S) -> Answer:
        """Solve the search with these requirements instead of its own. Of an infeasible one no conflict is sought.

        Args:
            requirements: What the child must meet: the search's own, changed copies of them, or fewer.
            time_s: Seconds. An answer that is not proven by then has its gap.

        Returns:
            The verified answer.
        """
        wanted = tuple(requirements)
        return self._answer(wanted, self._engine.solve(wanted, time_s))

    def explain(self, requirements: Iterable[Requirement], *, time_s: float = EXPLAIN_S) -> Answer:
        """Solve as `solve` does; of an infeasible search find the smallest conflict and the smallest way out.

        Args:
            requirements: What the child must meet.
            time_s: Seconds for the answer, and again for the conflict.

        Returns:
            The answer with its `conflict` and `advice`.
        """
        wanted = tuple(requirements)
        return self._answer(wanted, self._engine.explain(wanted, time_s))

    def why(
        self,
        requirements: Iterable[Requirement],
        layer: int,
        sub_block: Literal["attention", "ffn"] | None = None,
        *,
        time_s: float = WHY_S,
    ) -> Regrets | Answer:
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
        wanted = tuple(requirements)
        result = self._engine.why(wanted, layer, time_s)
        if not isinstance(result, WhyResult):
            return self._answer(wanted, result)
        kept = tuple(s for s in result.sub_blocks if sub_block in (None, s.sub_block))
        return Regrets(result.model_copy(update={"sub_blocks": kept}))

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

    def __repr__(self) -> str:
        return f"<Variations of {self._name}>"

    def _answer(self, requirements: tuple[Requirement, ...], result: SearchResult) -> Answer:
        from puzzledsl.api.answer import Answer

        return Answer(result, self._session.subject(self._name, result, requirements=requirements))
