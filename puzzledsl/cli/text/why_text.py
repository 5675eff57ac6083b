"""Regrets and margins as text: one line per layer, the cost of each requirement, and the choices that hardly matter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from puzzledsl.alternatives.alternative import ENDS
from puzzledsl.cli.loading import shown_path
from puzzledsl.base.phrases import aligned

if TYPE_CHECKING:
    from puzzledsl.ir.nodes import Program
    from puzzledsl.ir.tables import Margin, Move, Regret, SubBlockRegrets, WhyResult

NAMES = {"attention": "attention", "ffn": "FFN"}


def as_text(program: Program, result: WhyResult, file: str, wrote: Path | None, *, is_whole: bool) -> str:
    """Return all regrets and margins of a search; if it is not the whole, the alternatives of one place."""
    from puzzledsl.report.sections.searches import indifferent

    words = _Words(program, result)
    if not is_whole:
        return "\n".join([words.head(), *(line for s in result.sub_blocks for line in ("", *words.place(s)))])
    lines = [words.head(), "", *words.layers(), "", *words.margins(), "", *words.free(indifferent(result))]
    example = next((s for s in result.sub_blocks if len(s.regrets) > 1), result.sub_blocks[0])
    lines += [
        "",
        f"`pzl why {file} {result.search} {place_of(example)}` lists every alternative of one sub-block",
        *([f"wrote {shown_path(wrote)}"] if wrote else []),
    ]
    return "\n".join(lines)


def place_of(sub_block: SubBlockRegrets) -> str:
    """Return a place as the language writes it: `layers[3].ffn`, `head`."""
    is_end = sub_block.sub_block in ENDS
    return sub_block.sub_block if is_end else f"layers[{sub_block.layer}].{sub_block.sub_block}"


class _Words:
    def __init__(self, program: Program, result: WhyResult) -> None:
        from puzzledsl.ir.search_nodes import describe

        self.result = result
        self.search = program.searches[result.search]
        self.objective = describe(self.search.objective)

    def figure(self, value: float) -> str:
        """Return a difference of the objective as text, with its unit if the objective is one metric."""
        from puzzledsl.ir.nodes import MetricTerm
        from puzzledsl.pipeline.text.child_text import metric_text

        terms = self.search.objective.terms
        if value and len(terms) == 1 and isinstance(terms[0].term, MetricTerm):
            return metric_text(self.objective, value)
        return f"{value:.3g}"

    def head(self) -> str:
        """Return the optimum and the meaning of a regret."""
        result = self.result
        proof = "proven" if result.proven else "the best found, not proven"
        return (
            f"search {result.search}: {result.sense} {self.objective}, optimum {result.objective:.6g} ({proof})\n"
            "regret: how much worse the optimum gets with an alternative fixed there and all else chosen anew"
        )

    def regret(self, regret: Regret | Move) -> str:
        """Return a regret as text, in the unit of the objective."""
        from puzzledsl.report.sections.searches import regret_text

        return regret_text(regret, self.figure)

    # -------------------------------------------------------- places

    def place(self, sub_block: SubBlockRegrets) -> Iterator[str]:
        """Yield every alternative of one sub-block, the best first."""
        from puzzledsl.report.sections.searches import by_regret

        yield f"{place_of(sub_block)}: {sub_block.chosen} is chosen"
        rows = [["alternative", "regret", "of the objective"]]
        for regret in by_regret(sub_block):
            if regret.alternative == sub_block.chosen:
                rows.append([regret.alternative, "chosen", ""])
            else:
                rows.append([regret.alternative, self.regret(regret), self._share(regret)])
        yield from aligned(rows, "<>", "  ")

    def _share(self, regret: Regret) -> str:
        value = regret.at_most
        if value is None or not self.result.objective:
            return ""
        return f"{value / abs(self.result.objective) * 100:.3g} %"

    def layers(self) -> Iterator[str]:
        """Return one line per layer: the chosen alternative, and the next best with its regret."""
        rows = [["layer", "attention", "next best", "regret", "FFN", "next best", "regret"]]
        by_place = {(s.layer, s.sub_block): s for s in self.result.sub_blocks}
        ends = [s for s in self.result.sub_blocks if s.sub_block in ENDS]
        for layer in sorted({s.layer for s in self.result.sub_blocks if s not in ends}):
            cells = [self._cells(by_place[layer, "attention"]), self._cells(by_place[layer, "ffn"])]
            rows.append([str(layer), *cells[0], *cells[1]])
        rows += [[end.sub_block, *self._cells(end), "", "", ""] for end in ends]
        return aligned(rows, "<>", "  ")

    def _cells(self, sub_block: SubBlockRegrets) -> list[str]:
        from puzzledsl.report.sections.searches import next_best

        other = next_best(sub_block)
        if other is None:
            return [sub_block.chosen, "", ""]
        return [sub_block.chosen, other.alternative, self.regret(other)]

    def free(self, places: tuple[list[SubBlockRegrets], list[SubBlockRegrets]]) -> Iterator[str]:
        """Yield the sub-blocks with a negligible regret for any, or for some other, alternative."""
        limit = self.figure(self.result.negligible)
        if self.result.objective:
            limit += f", {self.result.negligible / abs(self.result.objective) * 100:.2g} % of the objective,"
        yield f"do not care (a regret of at most {limit} is negligible)"
        for head, those in zip(("any alternative will do:", "another will do as well:"), places, strict=True):
            yield f"  {head:<25}{_listed(those) or 'none'}"

    # -------------------------------------------------------- requirements

    def margins(self) -> Iterator[str]:
        """Yield the cost of each requirement."""
        yield "requirements: what the optimum loses (or gains) when a bound is moved"
        if not self.result.margins:
            yield "  none"
        for margin in self.result.margins:
            yield f"  line {margin.line}: {margin.text}"
            yield f"    {self._margin(margin)}"

    def _margin(self, margin: Margin) -> str:
        if not margin.moves:
            return "not computed in the time given"
        if all(move.at_least == move.at_most == 0 for move in margin.moves):
            return "does not bind: nothing changes, not even without it"
        return "; ".join(self._move(move) for move in margin.moves)

    def _move(self, move: Move) -> str:
        """`1 % tighter costs 0.021`."""
        what = "without it" if move.kind == "without" else f"{move.by} {move.kind}"
        if move.at_least is None:
            return f"{what} {'it ' if move.kind == 'without' else ''}cannot be met"
        if move.at_most is not None and move.at_least == move.at_most:
            if not move.at_most:
                return f"{what} changes nothing"
            verb = "costs" if move.at_most > 0 else "saves"
            return f"{what} {verb} {self.figure(abs(move.at_most))}"
        return f"{what} costs {self.regret(move)}"


def _listed(places: Sequence[SubBlockRegrets]) -> str:
    """`attention of layers 0, 3..5; FFN of layer 7`."""
    from puzzledsl.base.phrases import layers_in_words

    parts = []
    for sub_block, name in NAMES.items():
        layers = [s.layer for s in places if s.sub_block == sub_block]
        if layers:
            parts.append(f"{name} of {layers_in_words(layers)}")
    parts += [f"the {place.sub_block}" for place in places if place.sub_block in ENDS]
    return "; ".join(parts)
