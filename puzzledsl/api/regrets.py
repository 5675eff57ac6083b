"""The price of every other choice of a solved search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from puzzledsl.api.tables import Library
    from puzzledsl.ir.tables import Margin, Regret, SubBlockRegrets, WhyResult
    from puzzledsl.report.notebook import Table


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

    def _repr_html_(self) -> str:
        from puzzledsl.report.notebook import Table, fragment
        from puzzledsl.report.sections.regrets import heat_map

        title = repr(self).strip("<>")
        if len({s.layer for s in self.sub_blocks}) == 1:
            return fragment(title, (), [self._alternatives()])
        prices = [
            (m.text, f"{move.kind} {move.by}".strip(), _text(move.at_least, move.at_most))
            for m in self.margins
            for move in m.moves
        ]
        table = Table.of(("requirement", "bound moved", "optimum worse by"), prices, words=2)
        return fragment(title, (), [table], regrets=heat_map(self._result))

    def _alternatives(self) -> Table:
        """Every alternative of one layer, the best first."""
        from puzzledsl.report.notebook import Table
        from puzzledsl.report.sections.regrets import by_regret

        rows = [
            (f"layers[{s.layer}].{s.sub_block}", _name(s, regret), _text(regret.at_least, regret.at_most))
            for s in self.sub_blocks
            for regret in by_regret(s)
        ]
        return Table.of(("sub-block", "alternative", "regret"), rows, words=2)


def _name(sub_block: SubBlockRegrets, regret: Regret) -> str:
    return f"{regret.alternative} (chosen)" if regret.alternative == sub_block.chosen else regret.alternative


def _text(at_least: float | None, at_most: float | None) -> str:
    if at_least is None:
        return "cannot be met"
    if at_most is None:
        return f"at least {at_least:.3g}"
    return f"{at_most:.3g}" if at_least == at_most else f"{at_least:.3g} to {at_most:.3g}"
