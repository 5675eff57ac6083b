"""Answers as the page shows them: the report's strips, curves, regrets and figures, filled into small templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.explore.sheet import Answer, Bound, Question, Sheet, Statement, amount_of, options_of, unit_of
from puzzledsl.ir.search_nodes import describe, written
from puzzledsl.report import numbers
from puzzledsl.report.headline import headlines
from puzzledsl.report.numbers import METRIC_UNITS, by_regret, environment, is_negligible, regret_text, signed
from puzzledsl.report.pictures.architecture import appearance, strip_of
from puzzledsl.report.sections.requirements import lines_of
from puzzledsl.search.infeasible.verdicts import no_answer, requirements_by_place

if TYPE_CHECKING:
    from puzzledsl.ir.tables import Regret, SearchResult, WhyResult

TEMPLATES = Path(__file__).parent / "templates"
LABELS: tuple[tuple[SubBlock, str], ...] = (("attention", "Attention"), ("ffn", "FFN"))


def filled(template: str, **values: Any) -> str:
    """Fill a template of the page."""
    return environment(TEMPLATES).get_template(template).render(**values)


def answer_view(sheet: Sheet, question: Question, answer: Answer, ms: float) -> dict[str, Any]:
    """Return the parts of the page by name: HTML of proof, strip, figures and metrics, and the state of every statement."""
    result, subject, strip = answer.result, answer.subject, strip_of(answer.subject)
    goal = describe(subject.search.objective)
    view: dict[str, Any] = {
        "status": result.status,
        "figures": "",
        "strip": "",
        "statements": {},
        "metrics": "",
    }
    view["proof"] = filled("proof.html.j2", proof=result, ms=round(ms), goal=goal)
    if not strip:
        return view
    found = [{"number": h.number, "label": h.label, "detail": h.detail} for h in headlines(subject)]
    if result.objective is not None:  # the objective first, then the report's own figures
        number, sense = numbers.plain(result.objective), f"{subject.search.sense}d"
        found = [{"number": number, "label": goal, "detail": sense}, *found]
    return {
        **view,
        "figures": filled("figures.html.j2", headlines=found),
        "strip": filled("strip_pick.html.j2", strip=strip),
        "statements": statement_states(sheet, question, answer),
        "metrics": filled("metrics.html.j2", rows=metric_rows(result)),
    }


def statement_states(sheet: Sheet, question: Question, answer: Answer) -> dict[int, dict[str, Any]]:
    """Return for every statement (by number, also left-out ones): met, missed or unknown, the value achieved, and the room."""
    subject, best = answer.subject, answer.subject.best
    assert best is not None
    states: dict[int, dict[str, Any]] = {}
    for number, own in sheet.stated(question).items():
        lines = lines_of(subject, own, best)
        tightest = min(lines, key=lambda line: line.room.value if line.room else 0.0, default=None)
        reached = tightest.predicted if tightest else None
        marks = {line.mark for line in lines}
        states[number] = {
            "mark": "missed" if "missed" in marks else "met" if marks <= {"met"} else "unknown",
            "achieved": "" if reached is None else " · ".join(filter(None, (reached.text, reached.note))),
            "room": tightest.room.text if tightest and tightest.room else "",
        }
    return states


def conflict_view(sheet: Sheet, question: Question, answer: Answer) -> dict[str, Any]:
    """Return the requirements that exclude each other, each with its statement or choice, and bounds that could be met."""
    result, places = answer.result, requirements_by_place(answer.subject.search)
    stated = sheet.stated(question)
    owners: dict[object, dict[str, int]] = {}
    owners |= {sheet.condition(c): {"choice": i} for i, c in enumerate(question.choices)}
    for number, own in stated.items():
        owners |= {(r.where.text, r.where.line): {"statement": number} for r in own}

    def owner(text: str, line: int) -> dict[str, int]:
        return owners.get((text, line)) or owners.get(text) or {}

    items = []
    for item in result.conflict:
        text = written(places[item.line, item.text])
        items.append({**owner(item.text, item.line), "text": text, "reachable": item.reachable})
    fixes = []
    for change in result.relaxation.changes if result.relaxation is not None else ():
        found, bound = owner(change.text, change.line), change.bound
        bounds = sheet.statements[found["statement"]].bounds if "statement" in found and bound else ()
        of_unit = [b.number for b in bounds if b.is_clear and unit_of(bound or "") == b.unit]
        meant = of_unit[0] if len(of_unit) == 1 else None  # the bound it is for, if it is clear which
        fixes.append({**found, "bound": bound, "number": meant})
    problem = no_answer(answer.subject.program, result)
    return {"items": items, "advice": "" if problem is None else problem.help, "fixes": fixes}


def metric_rows(result: SearchResult) -> list[dict[str, Any]]:
    """Return a row for every metric of an answer but batches, by name: the value, the parent's, and their ratio, as text."""
    rows = []
    for name, found in sorted(result.metrics.items()):
        if name.endswith(".batch"):
            continue
        before, unit = result.parent_metrics.get(name), METRIC_UNITS.get(name.rpartition(".")[2], "")
        ratio = numbers.times(found / before) if before else None
        parent = None if before is None else numbers.of_unit(before, unit)
        value = numbers.of_unit(found, unit)
        rows.append({"name": name, "parent": parent, "value": value, "ratio": ratio})
    return rows


def is_exact(regrets: WhyResult) -> bool:
    """Return True if every regret is proven exactly: its bounds are equal."""
    return all(r.at_least == r.at_most for s in regrets.sub_blocks for r in s.regrets)


def layer_view(sheet: Sheet, layer: int, regrets: WhyResult | None) -> str:
    """Return one layer's alternatives with buttons, as HTML; with regrets, the best first."""
    choice, own = sheet.space.layers[layer], sheet.shape.at(layer)
    groups = []
    for sub_block, label in LABELS:
        found = {a.name: appearance(a, own) for a in options_of(choice, sub_block)}
        groups.append((sub_block, label, _options(found, sub_block, regrets)))
    proven = regrets is not None and is_exact(regrets)
    return filled("layer.html.j2", layer=layer, groups=groups, known=regrets is not None, proven=proven)


def _options(
    found: Mapping[str, tuple[str, float]], sub_block: SubBlock, regrets: WhyResult | None
) -> list[dict[str, Any]]:
    """Return template values of each alternative: appearance and, if known, regret. `found`: name -> (kind, share kept)."""
    plain = {"is_chosen": False, "regret": "", "sort": ""}
    options = {n: {"name": n, "kind": kind, "kept": kept, **plain} for n, (kind, kept) in found.items()}
    mine = next((s for s in regrets.sub_blocks if s.sub_block == sub_block), None) if regrets else None
    if regrets is None or mine is None:
        return [*options.values()]
    for regret in by_regret(mine):
        option = options[regret.alternative]
        option["is_chosen"] = regret.alternative == mine.chosen
        option["regret"] = "chosen" if option["is_chosen"] else regret_text(regret, signed)
        option["sort"] = "" if option["is_chosen"] else _sort(regrets, regret)
    return [options[regret.alternative] for regret in by_regret(mine)]


def _sort(why: WhyResult, regret: Regret) -> str:
    """Return a regret's class, which sets its colour: `cannot` (be met), `unknown`, `free` or `costs`."""
    if regret.at_least is None or regret.at_most is None:
        return "cannot" if regret.at_least is None else "unknown"
    return "free" if is_negligible(why, regret) else "costs"


def lever(statement: Statement, bound: Bound) -> dict[str, Any]:
    """Return the slider of a bound for the page's script: its text and unit, its grid, and its position."""
    shown = {name: getattr(bound, name) for name in ("number", "text", "written", "unit")}
    grid = {**asdict(bound.grid), "step": float(bound.grid.step)}
    position = bound.grid.nearest(amount_of(bound.text))
    return {**shown, **grid, "statement": statement.number, "position": position}


def pieces_of(sheet: Sheet, statement: Statement) -> list[tuple[str, Bound | None]]:
    """Return a statement's condition as parts in order, each with its text and the bound that it is (None: plain text)."""
    if statement.node is None:
        return [(statement.text, None)]
    file, whole = sheet.source.file, statement.node.condition.span
    parts: list[tuple[str, Bound | None]] = []
    at = whole.start
    for bound in sorted(statement.bounds, key=lambda bound: bound.span):
        parts += [(file.source(at.to(bound.span.start)), None), (file.source(bound.span), bound)]
        at = bound.span.end
    return [*parts, (file.source(at.to(whole.end)), None)]


def changed_lines(sheet: Sheet, question: Question) -> list[str]:
    """Return `require` lines for the statements that a question changes, omits (as comments) or adds. Raises BadQuestion."""
    sheet.stated(question)  # refuses what the page cannot have asked
    lines = []
    for statement in sheet.statements:
        is_off, bounds = statement.number in question.off, question.bounds
        if is_off or any(bound.number in bounds for bound in statement.bounds):
            parts = pieces_of(sheet, statement)
            shown = (bounds.get(bound.number, text) if bound else text for text, bound in parts)
            text = " ".join("".join(shown).split())
            because = f' because "{statement.because}"' if statement.because else ""
            lines.append(f"{'# ' if is_off else ''}require {text}{because}")
    return lines + [f"require {sheet.condition(choice)}" for choice in question.choices]


def page_view(sheet: Sheet, searches: Sequence[str], digest: str) -> str:
    """Return the HTML of the page before its first answer."""
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
        rows=[(statement, pieces_of(sheet, statement)) for statement in sheet.statements],
        name=sheet.name,
        searches=searches,
        file=sheet.program.file.name,
        doc=sheet.search.doc,
        origin=f"{source.name}, {len(sheet.space.layers)} layers",
        goal=f"{sheet.search.sense} {describe(sheet.search.objective)}",
    )
