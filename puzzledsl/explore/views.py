"""Answers as the page shows them: the report's strips, curves, regrets and figures, filled into small templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.explore.bounds import Bound, amount_of
from puzzledsl.explore.patterns import alternatives_of
from puzzledsl.explore.question import Question
from puzzledsl.explore.sheet import Sheet
from puzzledsl.explore.statements import Statement
from puzzledsl.ir.nodes import LinearRequirement
from puzzledsl.ir.tables import by_regret
from puzzledsl.report import numbers
from puzzledsl.report.environment import environment
from puzzledsl.report.headline import headlines
from puzzledsl.report.numbers import METRIC_UNITS, Number
from puzzledsl.report.pictures.architecture import strip_of
from puzzledsl.report.pictures.curves import curve_of
from puzzledsl.report.pictures.shades import appearance, window_scale
from puzzledsl.report.sections.regrets import HeatCell, heat_cell, told
from puzzledsl.report.sections.requirements import lines_of
from puzzledsl.report.sections.searches import describe, proof_of

if TYPE_CHECKING:
    from puzzledsl.api.answer import Answer
    from puzzledsl.api.regrets import Regrets

TEMPLATES = Path(__file__).parent / "templates"
POINTS = 13
"""Points of a frontier."""
NOW, KEPT = "now", "A"
LABELS: tuple[tuple[SubBlock, str], ...] = (("attention", "Attention"), ("ffn", "FFN"))


def filled(template: str, **values: Any) -> str:
    """Fill a template of the page."""
    return environment(TEMPLATES).get_template(template).render(**values)


# ---------------------------------------------------------------- an answer


def answer_view(sheet: Sheet, question: Question, answer: Answer, ms: float) -> dict[str, Any]:
    """The proof, the strip and the state of every statement."""
    subject = answer.subject
    strip = strip_of(subject)
    return {
        "status": answer.status,
        "proof": filled(
            "proof.html.j2", proof=proof_of(subject), ms=round(ms), goal=describe(subject.search.objective)
        ),
        "figures": filled("figures.html.j2", headlines=_headlines(answer)) if strip else "",
        "strip": filled("strip_pick.html.j2", strip=strip) if strip else "",
        "statements": statement_states(sheet, question, answer) if strip else {},
        "metrics": filled("metrics.html.j2", rows=metric_rows([answer]), names=[NOW]) if strip else "",
    }


@dataclass(frozen=True, slots=True)
class _Figure:
    number: Number
    label: str
    detail: str


def _headlines(answer: Answer) -> list[_Figure]:
    """The objective first, then the report's own figures."""
    subject = answer.subject
    found = [_Figure(h.number, h.label, h.detail) for h in headlines(subject)]
    if answer.objective is None:
        return found
    goal = _Figure(
        numbers.plain(answer.objective), describe(subject.search.objective), f"{subject.search.sense}d"
    )
    return [goal, *found]


def statement_states(sheet: Sheet, question: Question, answer: Answer) -> dict[int, dict[str, Any]]:
    """Return how far the child meets every statement, also those that are left out."""
    subject = answer.subject
    best = subject.best
    assert best is not None
    stated = sheet.stated(question)
    states: dict[int, dict[str, Any]] = {}
    for statement in sheet.statements:
        lines = lines_of(subject, stated[statement.number], best)
        tightest = min(lines, key=lambda line: line.room.value if line.room else 0.0, default=None)
        reached = tightest.predicted if tightest else None
        marks = {line.mark for line in lines}
        states[statement.number] = {
            "mark": "missed" if "missed" in marks else "met" if marks <= {"met"} else "unknown",
            "achieved": "" if reached is None else " · ".join(filter(None, (reached.text, reached.note))),
            "room": tightest.room.text if tightest and tightest.room else "",
        }
    return states


# ---------------------------------------------------------------- two answers


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric of the parent and of one or two answers, and each answer's over the parent's."""

    name: str
    parent: Number | None
    values: tuple[Number | None, ...]
    ratios: tuple[Number | None, ...]


def metric_rows(answers: Sequence[Answer]) -> list[MetricRow]:
    """Every metric of the answers, in order of name."""
    parent = answers[0].parent_metrics
    rows = []
    for name in sorted({name for answer in answers for name in answer.metrics}):
        if name.endswith(".batch"):
            continue
        before = parent.get(name)
        values = [answer.metrics.get(name) for answer in answers]
        rows.append(
            MetricRow(
                name,
                None if before is None else _number(name, before),
                tuple(None if v is None else _number(name, v) for v in values),
                tuple(None if v is None or not before else numbers.times(v / before) for v in values),
            )
        )
    return rows


def _number(name: str, value: float) -> Number:
    unit = METRIC_UNITS.get(name.rpartition(".")[2], "")
    return numbers.of_unit(value, unit)


def comparison_view(kept: Answer, now: Answer) -> dict[str, Any]:
    """Both strips, the layers that differ, and the metrics side by side."""
    pairs = list(zip(kept.layers, now.layers, strict=False))
    changed = [i for i, (a, b) in enumerate(pairs) if a != b]
    rows = [
        (i, label, getattr(pairs[i][0], part), getattr(pairs[i][1], part))
        for i in changed
        for part, label in LABELS
        if getattr(pairs[i][0], part) != getattr(pairs[i][1], part)
    ]
    html = filled(
        "comparison.html.j2",
        strip=strip_of(kept.subject),
        changed=len(changed),
        rows=rows,
        metrics=metric_rows([kept, now]),
        names=[KEPT, NOW],
    )
    return {"html": html, "changed": changed}


# ---------------------------------------------------------------- one layer


def is_exact(regrets: Regrets) -> bool:
    """True if every regret is proven."""
    return all(r.at_least == r.at_most for s in regrets.sub_blocks for r in s.regrets)


@dataclass(frozen=True, slots=True)
class Option:
    """One alternative of a sub-block: how it is drawn, and its regret where that is known."""

    name: str
    kind: str
    kept: float
    is_chosen: bool
    regret: str
    heat: HeatCell | None


def layer_view(sheet: Sheet, layer: int, regrets: Regrets | None) -> str:
    """The alternatives of one layer with buttons; with regrets, the best first."""
    choice, own = sheet.space.layers[layer], sheet.shape.at(layer)
    windows = window_scale(sheet.program.ir, sheet.space.layers, sheet.shape)
    groups = []
    for sub_block, label in LABELS:
        found = {a.name: appearance(a, own, windows) for a in alternatives_of(choice, sub_block)}
        groups.append((sub_block, label, _options(found, sub_block, regrets)))
    proven = regrets is not None and is_exact(regrets)
    return filled("layer.html.j2", layer=layer, groups=groups, known=regrets is not None, proven=proven)


def _options(
    found: Mapping[str, tuple[str, float]], sub_block: SubBlock, regrets: Regrets | None
) -> list[Option]:
    mine = next((s for s in regrets.sub_blocks if s.sub_block == sub_block), None) if regrets else None
    if regrets is None or mine is None:
        return [Option(name, kind, kept, False, "", None) for name, (kind, kept) in found.items()]
    largest = max((r.at_most or 0.0 for s in regrets.sub_blocks for r in s.regrets), default=0.0)
    options = []
    for regret in by_regret(mine):
        kind, kept = found[regret.alternative]
        cell = heat_cell(regrets.result, mine, regret.alternative, largest)
        is_chosen = regret.alternative == mine.chosen
        text = "chosen" if is_chosen else told(regret)
        options.append(Option(regret.alternative, kind, kept, is_chosen, text, cell))
    return options


# ---------------------------------------------------------------- a frontier


def amount(text: str) -> float:
    """Return a literal's number, for a place on the axis. Raises BadQuestion."""
    return float(amount_of(text))


def frontier_view(
    sheet: Sheet,
    bound: Bound,
    solved: Sequence[tuple[float, Answer]],
    named: Sequence[tuple[str, float, Answer]],
) -> str:
    """The objective over one bound, proven at every point, with the present answer on it."""
    statement = next(s for s in sheet.statements if bound in s.bounds)
    points = [(x, a.objective) for x, a in solved if a.objective is not None]
    others = [(name, x, a.objective) for name, x, a in named if a.objective is not None]
    proven = all(a.status in ("optimal", "infeasible") for _, a in solved)
    curve = None
    if len(points) > 1:
        first = sheet.search.requirements[bound.requirements[0]] if bound.requirements else None
        term = describe(first.left) if isinstance(first, LinearRequirement) else statement.text
        unit = {"": "", "x": ", times the parent's"}.get(bound.unit, f", {bound.unit.strip()}")
        curve = curve_of(
            "", term + unit, describe(sheet.search.objective), points, others, main=NOW,
            infeasible=len(solved) - len(points), unit="",
        )  # fmt: skip
    return filled("frontier.html.j2", c=curve, proven=proven, infeasible=len(solved) - len(points))


# ---------------------------------------------------------------- the page


def lever(statement: Statement, bound: Bound) -> dict[str, Any]:
    """A bound as the page's script moves it."""
    grid = bound.grid
    return {
        "number": bound.number,
        "statement": statement.number,
        "text": bound.text,
        "written": bound.written,
        "unit": bound.unit,
        "first": grid.first,
        "last": grid.last,
        "step": float(grid.step),
        "decimals": grid.decimals,
        "position": grid.nearest(bound.amount),
    }


def pieces_of(sheet: Sheet, statement: Statement) -> list[tuple[str, Bound | None]]:
    """A statement's condition in parts: text, and the bounds between."""
    source, condition = sheet.source, statement.condition
    if condition is None:
        return [(statement.text, None)]
    at, stop = source.reach(condition)
    parts: list[tuple[str, Bound | None]] = []
    for bound in sorted(statement.bounds, key=lambda b: source.reach(b.span)):
        begin, end = source.reach(bound.span)
        parts += [(source.text[at:begin], None), (source.text[begin:end], bound)]
        at = end
    return [*parts, (source.text[at:stop], None)]


def page_view(sheet: Sheet, searches: Sequence[str], digest: str) -> str:
    """The page before its first answer."""
    rows = [(statement, pieces_of(sheet, statement)) for statement in sheet.statements]
    state = {
        "search": sheet.name,
        "digest": digest,
        "levers": [lever(s, b) for s in sheet.statements for b in s.bounds],
        "layers": len(sheet.space.layers),
    }
    source = sheet.program.ir.parents[sheet.space.parent]
    return filled(
        "page.html.j2",
        state=state,
        rows=rows,
        name=sheet.name,
        searches=searches,
        file=sheet.program.file.name,
        doc=sheet.search.doc,
        origin=f"{source.name}, {len(sheet.space.layers)} layers",
        goal=f"{sheet.search.sense} {describe(sheet.search.objective)}",
        can_be_edited=sheet.can_be_edited,
    )
