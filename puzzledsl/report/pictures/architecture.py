"""Strip of a child: one column per layer, with cells for attention and FFN, its time and its score below.

Kind and shade of a sub-block in the strip: darker for a larger share of the parent's, in weights, bits and window.
Shades also differ in grey.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from puzzledsl.alternatives.alternative import SUB_BLOCKS, Alternative, SubBlock
from puzzledsl.alternatives.parent import PARENTS
from puzzledsl.alternatives.precision import PRECISIONS
from puzzledsl.ir.facts import counted_runs, dropped_names
from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.tables import PARENT as PARENT_LAYER
from puzzledsl.ir.tables import Cost, LayerAssignment, ScenarioCosts, ScoreTable, Solution
from puzzledsl.report.numbers import Number, plain, seconds, share
from puzzledsl.report.subject import Subject

NAMES: dict[SubBlock, str] = {"attention": "attention", "ffn": "FFN"}
FAINTEST, STRONGEST = 0.18, 0.9
"""Shades, as shares of the full colour, of an alternative that keeps almost nothing and of one that keeps all."""
WHOLE_BITS = 16  # Bits of a weight that has no storage type of its own.
WIDEST = 17  # Base-2 logarithm of the window, 128Ki tokens, that has the shade of no window.


def appearance(alternative: Alternative, shape: Shape) -> tuple[str, float]:
    """Return an alternative's kind and its shade, 0 to 1: darker, the more of the parent's weights, bits and window it keeps."""
    is_rounded = alternative.look == "parent" and alternative.dtype is not None
    if alternative.look != "reduced" and not is_rounded:
        return alternative.look, 0.0 if alternative.look == "noop" else 1.0
    kept = alternative.params(shape) / PARENTS[alternative.sub_block].params(shape)
    if alternative.dtype is not None:
        kept *= PRECISIONS[alternative.dtype].bits / WHOLE_BITS
    window = alternative.alone(shape).attended
    seen = 1.0 if window is None else math.log2(window) / WIDEST
    return "reduced", FAINTEST + (STRONGEST - FAINTEST) * min(kept * seen, 1.0)


@dataclass(frozen=True)
class Cell:
    """One sub-block. `kept` in 0..1 grows with how much of the parent's is left, and is the strength of its colour."""

    sub_block: SubBlock
    name: str
    kind: str  # "parent", "reduced", "linear", "noop"
    kept: float
    title: str


@dataclass(frozen=True)
class Column:
    """One layer. Bars are fractions of the tallest one, 0 if unknown; an unknown number is None."""

    index: int
    attention: Cell
    ffn: Cell
    time: Number | None
    time_share: Number | None
    score: Number | None
    time_bar: float
    parent_bar: float
    score_bar: float


Entry = tuple[Cell, int]  # of the legend: an alternative, and the number of its layers


@dataclass(frozen=True)
class Strip:
    """The whole picture. `scenario` is the one that times are of; None where there are no costs."""

    columns: tuple[Column, ...]
    attention: tuple[Entry, ...]
    ffn: tuple[Entry, ...]
    scenario: str | None
    score: str | None
    summary: str
    ends: tuple[tuple[str, str], ...] = ()
    """The model's ends and their types, where the space gives them a choice."""


def strip_of(subject: Subject) -> Strip | None:
    """Return the strip of the child that is built; None if there is none."""
    return None if subject.best is None else _strip(subject, subject.best)


def optimum_strip(subject: Subject) -> Strip | None:
    """Return the strip of the solver's child; None if there is none, or if it is the child that is built."""
    best, optimum = subject.best, subject.optimum
    if best is None or optimum is None or best.layers == optimum.layers:
        return None
    return _strip(subject, optimum)


def _strip(subject: Subject, best: Solution) -> Strip:
    costs = subject.scenario_costs(subject.scenario, best) if subject.scenario else None
    drafts = [_Draft(subject, costs, i, layer) for i, layer in enumerate(best.of_layers)]
    drop_shares = _shares(subject.score_table, best.of_layers, subject.shape)
    times, parents = [d.time_s(d.layer) for d in drafts], [d.time_s(PARENT_LAYER) for d in drafts]
    scores = [drop_shares.get(d.index, d.score) for d in drafts]
    total, tallest = sum(t or 0 for t in times), max((t or 0 for t in (*times, *parents)), default=0)
    worst = max((score or 0 for score in scores), default=0)
    columns = tuple(
        Column(
            index=draft.index,
            attention=draft.cell("attention"),
            ffn=draft.cell("ffn"),
            time=None if time is None else seconds(time),
            time_share=None if time is None or not total else share(time / total),
            score=None if score is None else plain(score),
            time_bar=(time or 0) / tallest if tallest else 0,
            parent_bar=(parent or 0) / tallest if tallest else 0,
            score_bar=max(score or 0, 0) / worst if worst > 0 else 0,
        )
        for draft, time, parent, score in zip(drafts, times, parents, scores, strict=True)
    )
    ends = () if subject.space.ends is None else tuple(best.ends)
    legends = {part: _legend([getattr(column, part) for column in columns]) for part in SUB_BLOCKS}
    used = (", ".join(f"{layers} × {cell.name}" for cell, layers in legends[part]) for part in SUB_BLOCKS)
    parts = (f"{NAMES[part]}: {names}" for part, names in zip(SUB_BLOCKS, used, strict=True))
    return Strip(
        columns=columns,
        attention=legends["attention"],
        ffn=legends["ffn"],
        scenario=subject.scenario if any(c.time for c in columns) else None,
        score=subject.score if any(c.score for c in columns) else None,
        summary="; ".join([f"{len(columns)} layers", *parts, *(f"{site}: {name}" for site, name in ends)]),
        ends=ends,
    )


def _shares(scores: ScoreTable | None, layers: Sequence[LayerAssignment], shape: Shape) -> dict[int, float]:
    """Return for each layer in a measured run of dropped layers its even share of the run's score."""
    measured = {} if scores is None else {(r.first, r.length): r.value for r in scores.runs}
    dropped = zip(layers, dropped_names(shape), strict=True)
    runs = counted_runs([(layer.attention, layer.ffn) == gone for layer, gone in dropped], measured)
    return {i: measured[first, n] / n for first, n in runs for i in range(first, first + n)}


@dataclass
class _Draft:
    """One layer of a child with its tables. `costs`: of the scenario that times are of."""

    subject: Subject
    costs: ScenarioCosts | None
    index: int
    layer: LayerAssignment

    def _costs(self, layer: LayerAssignment) -> dict[str, Cost]:
        """Costs by part: the pair where it was measured as one, else the two sub-blocks."""
        if self.costs is None or len(self.costs.attention) <= self.index:
            return {}
        pairs = self.costs.pairs[self.index] if self.costs.pairs else {}
        if pair := pairs.get(f"{layer.attention}/{layer.ffn}"):
            return {"block": pair}
        attention = self.costs.attention[self.index].get(layer.attention)
        ffn = self.costs.ffn[self.index].get(layer.ffn)
        return {"attention": attention, "ffn": ffn} if attention and ffn else {}

    def time_s(self, layer: LayerAssignment) -> float | None:
        """Seconds of the layer with the alternatives of `layer`, for a batch with all its outputs; None if unknown."""
        if self.costs is None or not (found := self._costs(layer)):
            return None
        output = self.costs.output
        return sum((cost.prefill_ns + output * cost.decode_ns) / 10**9 for cost in found.values())

    @property
    def score(self) -> float | None:
        """The score that the layer's alternatives lose; None without a score table."""
        if (scores := self.subject.score_table) is None:
            return None
        if not scores.pairs:
            return (self._sub_score("attention") or 0) + (self._sub_score("ffn") or 0)
        name = f"{self.layer.attention}/{self.layer.ffn}"
        return scores.pairs[self.index].get(name, 0.0) if self.index < len(scores.pairs) else None

    def _sub_score(self, sub_block: SubBlock) -> float | None:
        scores = self.subject.score_table
        if scores is None or scores.pairs:
            return None
        table: Sequence[Mapping[str, float]] = getattr(scores, sub_block)
        return table[self.index].get(getattr(self.layer, sub_block), 0.0) if self.index < len(table) else None

    def cell(self, sub_block: SubBlock) -> Cell:
        """Return the cell of one sub-block."""
        name: str = getattr(self.layer, sub_block)
        choice, own = self.subject.space.layers[self.index], self.subject.shape.at(self.index)
        options: tuple[Alternative, ...] = getattr(choice.with_parent(), sub_block)
        alternative = next((a for a in options if a.name == name), None)
        kind, kept = appearance(alternative, own) if alternative else ("reduced", 0.5)
        title = f"layer {self.index} · {NAMES[sub_block]} · {name}"
        if (cost := self._costs(self.layer).get(sub_block)) is not None:
            prefill, decode = seconds(cost.prefill_ns / 10**9), seconds(cost.decode_ns / 10**9)
            title += f" · prefill {prefill.text}, decode {decode.text}"
        if (score := self._sub_score(sub_block)) is not None:
            title += f" · score lost {score:.4g}"
        return Cell(sub_block, name, kind, round(kept, 3), title)


def _legend(cells: list[Cell]) -> tuple[Entry, ...]:
    counts = Counter(cell.name for cell in cells)
    first = {cell.name: cell for cell in reversed(cells)}
    order = {"parent": 0, "reduced": 1, "linear": 2, "noop": 3}
    names = sorted(first, key=lambda n: (order[first[n].kind], -first[n].kept, n))
    return tuple((first[n], counts[n]) for n in names)
