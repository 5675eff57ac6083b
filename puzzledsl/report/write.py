"""Write report.html: values are computed here, the template only places them, and escapes every one.

Losses of the block library, initial and trained, by alternative.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.files import write_text
from puzzledsl.base.version import __version__
from puzzledsl.ir.nodes import HfSource, Program
from puzzledsl.ir.search_nodes import describe
from puzzledsl.ir.tables import AnsweredPrompt, Piece
from puzzledsl.ir.tables.evaluations import Answer
from puzzledsl.plan.bld import bld_plan
from puzzledsl.report.headline import endings, headlines, uncalibrated_notes, verdict
from puzzledsl.report.numbers import STATUS, environment
from puzzledsl.report.pictures import architecture, curves
from puzzledsl.report.sections import measured, requirements
from puzzledsl.report.sections.measured import interval_text, number_of, pooled_last
from puzzledsl.report.sections.serving import ladders, traffic_tables
from puzzledsl.report.subject import PARENT, Artefacts, Subject, load_artefacts, main_search
from puzzledsl.syntax.parse import normalise


def write_report(program: Program, build: BuildDir, source_text: str) -> Path:
    """Write `report.html` from whichever artefacts the build directory has; returns its path.

    One file, no network: styles, pictures and a few lines of script are inside. Pictures of a child beside an engine's own files
    are also written as SVG beside it, `ladder-EVAL.svg`.
    """
    found = load_artefacts(program, build)
    write_text(build.report, render(found, source_text))
    for table in ladders(Subject(found, name)) if (name := main_search(found)) else ():
        picture = environment().get_template("points.svg.j2").render(c=table.picture)
        write_text(build.report.with_name(f"{table.picture.name}.svg"), picture + "\n")
    return build.report


def render(found: Artefacts, source_text: str) -> str:
    """The page's HTML."""
    name = main_search(found)
    subject = Subject(found, name) if name else None
    infeasible = {n: r for n, r in found.results.items() if r.status == "infeasible"}
    template = environment().get_template("report.html.j2")
    page = template.render(
        **_head(found, subject),
        **{name: make(subject) if subject else () for name, make in SECTIONS.items()},
        subject=subject,
        texts=found.texts,
        unreadable=found.unreadable,
        version=__version__,
        statuses=STATUS,
        interval=interval_text,
        number_of=number_of,
        pooled_last=pooled_last,
        conflicts={name: result.conflict for name, result in infeasible.items() if result.conflict},
        libraries=[*libraries(found)],
        source=normalise(source_text).removesuffix("\n").split("\n"),
        source_name=Path(found.program.source).name,
        failures=[failure for failure in found.failures if failure.stage != "report"],
    )
    return page + "\n"


SECTIONS: dict[str, Callable[[Subject], object]] = {
    "headlines": headlines,
    "strip": architecture.strip_of,
    "optimum": architecture.optimum_strip,
    "refined": measured.refined,
    "comparisons": measured.comparisons,
    "kept": measured.kept_tables,
    "ladders": lambda subject: [*ladders(subject)],
    "children": lambda subject: [
        c for _, e in subject.evaluations for c in e.comparisons if c.model in subject.children(e)
    ],
    "answers": lambda subject: [*_answers(subject)],
    "result": lambda subject: subject.result,
    "requirements": requirements.requirement_lines,
    "uncalibrated": uncalibrated_notes,
    "predictions": measured.predictions,
    "verdict": verdict,
    "endings": endings,
    "curves": curves.curves,
    "traffic": traffic_tables,
    "stale": lambda subject: bool(subject.result and subject.result.solutions and subject.best is None),
}
"""Template variable -> function of the page's search that makes it; on a page without a search all are empty."""


def _answers(subject: Subject) -> Iterator[tuple[str, list[tuple[AnsweredPrompt, dict[str, Answer]]]]]:
    """Yield each evaluation that has answers of this search's child, with its prompts and the answers of each model."""
    for declaration, evaluation in subject.evaluations:
        models = (PARENT, *subject.shown(declaration, evaluation))
        said = [(a, {m: a.answers[m] for m in models if m in a.answers}) for a in evaluation.answers]
        if any(len(answers) > 1 for _, answers in said):
            yield declaration.name, said


def _head(found: Artefacts, subject: Subject | None) -> dict[str, object]:
    """Title, one line on where the child comes from, and the documentation comment."""
    stem = Path(found.program.source).stem
    if subject is None:
        return {"title": stem, "program": stem, "doc": "", "origin": "", "objective_label": ""}
    source, parent = subject.parent.source, subject.parent.name
    if isinstance(source, HfSource) and source.id != parent:
        parent += f" ({source.id})"
    return {
        "title": subject.name,
        "program": stem,
        "doc": subject.search.doc,
        "origin": f"a child of {parent}, {subject.shape.layers} layers",
        "objective_label": describe(subject.search.objective),
    }


@dataclass(frozen=True)
class Library:
    """Pieces of one BLD. `depth`: layers. `groups`: pieces by (sub-block, alternative). `worst`: largest loss, a full bar."""

    name: str
    made: list[Piece]
    planned: int
    depth: int
    groups: dict[tuple[str, str], list[Piece]]
    worst: float


def libraries(found: Artefacts) -> Iterator[Library]:
    """Yield one table per BLD declaration with at least one piece. Pieces of other programs are left out."""
    for name in found.program.blds:
        jobs = bld_plan(found.program, name)
        made = [found.pieces[job.id] for job in jobs if job.id in found.pieces]
        groups: dict[tuple[str, str], list[Piece]] = {}
        for piece in made:
            groups.setdefault(_group(piece), []).append(piece)
        for group in groups.values():
            group.sort(key=lambda piece: piece.job.layer)
        if made:
            depth = len(found.program.spaces[found.program.blds[name].space].layers)
            worst = max(max(piece.loss_initial, piece.loss_final) for piece in made) or 1
            yield Library(name, made, len(jobs), depth, groups, worst)


def _group(piece: Piece) -> tuple[str, str]:
    attention, ffn = piece.job.attention, piece.job.ffn
    kind = "block" if attention and ffn else "attention" if attention else "FFN"
    return kind, "/".join(part.name for part in (attention, ffn) if part)
