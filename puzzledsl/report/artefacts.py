"""Read every artefact of a build directory. The page omits missing ones and names unreadable ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.costs.table import merge
from puzzledsl.costs.traffic import filled
from puzzledsl.ir.base import Artefact
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import (
    CostTable,
    EngineCheck,
    Evaluation,
    Failure,
    FrontierResult,
    LoadCheck,
    ModelFigures,
    Piece,
    RefinedFrontier,
    Refinement,
    ScoreTable,
    SearchResult,
    TextCounts,
    WhyResult,
    piece_of_line,
)

T = TypeVar("T", bound=Artefact)


@dataclass
class Artefacts:
    """Artefacts by the name of the declaration that made them. `unreadable` names damaged files."""

    program: Program
    results: dict[str, SearchResult] = field(default_factory=dict)
    measured_frontiers: dict[str, RefinedFrontier] = field(default_factory=dict)
    whys: dict[str, WhyResult] = field(default_factory=dict)
    refinements: dict[str, Refinement] = field(default_factory=dict)
    costs: dict[str, CostTable] = field(default_factory=dict)
    scores: dict[str, ScoreTable] = field(default_factory=dict)
    frontiers: dict[str, FrontierResult] = field(default_factory=dict)
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    pieces: dict[str, Piece] = field(default_factory=dict)
    engines: dict[str, EngineCheck] = field(default_factory=dict)
    loads: dict[str, LoadCheck] = field(default_factory=dict)
    texts: dict[str, tuple[TextCounts, ...]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def load_artefacts(program: Program, build: BuildDir) -> Artefacts:
    """Read what is there, for the program's declarations only. Never raises for a missing or damaged file."""
    from puzzledsl.data.counts import counts_in

    found = Artefacts(program)
    reader = _Reader(build.root, found.unreadable)
    for space in program.spaces:
        paths = build.costs(space), build.measured_costs(space)
        tables = [filled(program, table) for path in paths if (table := reader.one(path, CostTable))]
        if tables:
            found.costs[space] = merge(*tables)
    found.scores = reader.many(program.scores, build.scores, ScoreTable)
    found.results = reader.many(program.searches, build.solution, SearchResult)
    refined = [name for name, search in program.searches.items() if search.refine is not None]
    found.refinements = reader.many(refined, build.refinement, Refinement)
    along = [name for name, frontier in program.frontiers.items() if frontier.children]
    found.measured_frontiers = reader.many(along, build.refinement, RefinedFrontier)
    found.whys = reader.many(program.searches, build.why, WhyResult)
    found.frontiers = reader.many(program.frontiers, build.frontier, FrontierResult)
    found.failures = reader.failures(build.failure("", "").parent)
    out_of_date = {f.name for f in found.failures if f.stage == "eval" and not f.partly}
    wanted = [name for name in program.evals if name not in out_of_date]
    found.evaluations = reader.many(wanted, build.evaluation, Evaluation)
    checked = sorted(path.stem for path in build.engines("").parent.glob("*.json") if path.stem)
    found.engines = reader.many(checked, build.engines, EngineCheck)
    found.loads = reader.many(program.searches, build.load, LoadCheck)
    found.pieces = reader.pieces(build.library / "index.jsonl")
    found.texts = counts_in(build.tokens, program.data)
    return found


def figures_of(evaluation: Evaluation, model: str) -> ModelFigures | None:
    """Figures of one model; None where it was not measured."""
    return next((m for m in evaluation.models if m.model == model), None)


@dataclass
class _Reader:
    root: Path
    unreadable: list[str]

    def one(self, path: Path, kind: type[T]) -> T | None:
        try:
            return kind.from_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            self.unreadable.append(path.relative_to(self.root).as_posix())
            return None

    def many(self, names: Iterable[str], path_of: Callable[[str], Path], kind: type[T]) -> dict[str, T]:
        read = {name: self.one(path_of(name), kind) for name in names}
        return {name: artefact for name, artefact in read.items() if artefact is not None}

    def failures(self, folder: Path) -> list[Failure]:
        """Tasks that failed when they were last tried, by stage and name."""
        read = (self.one(path, Failure) for path in sorted(folder.glob("*.json")))
        return [failure for failure in read if failure is not None]

    def pieces(self, index: Path) -> dict[str, Piece]:
        """The library's index; a last line without its newline is one that was never finished."""
        try:
            lines = index.read_bytes().split(b"\n")[:-1]
        except OSError:
            return {}
        pieces: dict[str, Piece] = {}
        for line in lines:
            try:
                piece = piece_of_line(line)
            except ValueError:
                name = index.relative_to(self.root).as_posix()
                if name not in self.unreadable:
                    self.unreadable.append(name)
                continue
            pieces[piece.job.id] = piece
        return pieces
