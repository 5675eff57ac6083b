"""Read every artefact of a build directory. The page omits missing ones and names unreadable ones.

Subject of the page: one search, its best child, that child's measured figures, and a way to predict them.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.units import REQ_PER_S, TIME, TOK_PER_S
from puzzledsl.costs.breakdown import costs_at
from puzzledsl.costs.metrics import filled, whole_metrics
from puzzledsl.costs.table import merge
from puzzledsl.ir import nodes, tables
from puzzledsl.ir.base import Artefact
from puzzledsl.ir.metric_records import METRICS
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.references import search_behind
from puzzledsl.ir.tables import PARENT as PARENT_LAYER
from puzzledsl.ir.tables.answers import Assignment, Refinement, SearchResult, Solution
from puzzledsl.ir.tables.evaluations import Evaluation, Figure
from puzzledsl.ir.tables.summed import ScenarioCosts

T = TypeVar("T", bound=Artefact)


@dataclass
class Artefacts:
    """Artefacts by the name of their declaration; `costs` by space, `pieces` by job id. `unreadable` names damaged files."""

    program: Program
    results: dict[str, SearchResult] = field(default_factory=dict)
    refinements: dict[str, Refinement] = field(default_factory=dict)
    costs: dict[str, tables.CostTable] = field(default_factory=dict)
    scores: dict[str, tables.ScoreTable] = field(default_factory=dict)
    frontiers: dict[str, tables.FrontierResult] = field(default_factory=dict)
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    pieces: dict[str, tables.Piece] = field(default_factory=dict)
    loads: dict[str, tables.LoadCheck] = field(default_factory=dict)
    texts: dict[str, tuple[tables.TextCounts, ...]] = field(default_factory=dict)
    failures: list[tables.Failure] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def load_artefacts(program: Program, build: BuildDir) -> Artefacts:
    """Read what is there, for the program's declarations only. Never raises for a missing or damaged file."""
    from puzzledsl.data.counts import counts_in
    from puzzledsl.pieces.store.index import Index

    found = Artefacts(program)
    reader = _Reader(build.root, found.unreadable)
    for space in program.spaces:
        paths = build.costs(space), build.measured_costs(space)
        made = [filled(program, table) for path in paths if (table := reader.one(path, tables.CostTable))]
        if made:
            found.costs[space] = merge(*made)
    found.scores = reader.many(program.scores, build.scores, tables.ScoreTable)
    found.results = reader.many(program.searches, build.solution, SearchResult)
    refined = [name for name, search in program.searches.items() if search.refine is not None]
    found.refinements = reader.many(refined, build.refinement, Refinement)
    found.frontiers = reader.many(program.frontiers, build.frontier, tables.FrontierResult)
    failed = (reader.one(p, tables.Failure) for p in sorted(build.failure("", "").parent.glob("*.json")))
    found.failures = [failure for failure in failed if failure is not None]
    out_of_date = {f.name for f in found.failures if f.stage == "eval" and not f.partly}
    wanted = [name for name in program.evals if name not in out_of_date]
    found.evaluations = reader.many(wanted, build.evaluation, Evaluation)
    found.loads = reader.many(program.searches, build.load, tables.LoadCheck)
    index = build.library / "index.jsonl"
    try:
        found.pieces = Index(index).read()
    except (OSError, DiagnosticError):
        found.unreadable.append(index.relative_to(build.root).as_posix())
    found.texts = counts_in(build.tokens, program.data)
    return found


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


PARENT = "parent"


def main_search(found: Artefacts) -> str | None:
    """Return the search of the page: an evaluated, else an uptrained, else any one, solved ones first; None without a search."""
    program = found.program
    candidates = [search_behind(program, e.of) for n, e in program.evals.items() if n in found.evaluations]
    candidates += [search_behind(program, e.of) for e in program.evals.values()]
    candidates += [u.search for u in program.uptrains.values()]
    candidates += list(program.searches)
    known = [name for name in candidates if name in program.searches]
    return next((name for name in known if name in found.results), known[0] if known else None)


class Subject:
    """One search with its space, parent, answer (`result`, once solved), children and measurements."""

    def __init__(self, found: Artefacts, name: str) -> None:
        self.found, self.name, self.program = found, name, found.program
        self.search = self.program.searches[name]
        self.space = self.program.spaces[self.search.space]
        self.parent = self.program.parents[self.space.parent]
        self.shape = self.parent.shape
        self.result = found.results.get(name)
        self.costs = found.costs.get(self.search.space)

    @cached_property
    def best(self) -> Solution | None:
        """The child that is built; None without one, or if the space has changed since."""
        return self.child(self.name)

    @cached_property
    def optimum(self) -> Solution | None:
        """The solver's child, or None; if the search was refined, the child that is built may be another, `best`."""
        return self.best_of(self.result)

    @cached_property
    def refinement(self) -> Refinement | None:
        """The children measured around the optimum; None without them, or if the best is not in the space as it is now."""
        return self._refinement(self.name)

    def child(self, search: str) -> Solution | None:
        """Return the child to build for a search of this space: the best measured one, else the solver's, else None."""
        found = self._refinement(search)
        return self.best_of(self.found.results.get(search)) if found is None else found.solution

    def _refinement(self, search: str) -> Refinement | None:
        found = self.found.refinements.get(search)
        return found if found is not None and self._fits(found.solution) else None

    def best_of(self, result: SearchResult | None) -> Solution | None:
        """Return the best child of a result; None if its layers are not in this space."""
        if result is None or not result.solutions:
            return None
        return result.solutions[0] if self._fits(result.solutions[0]) else None

    def _fits(self, solution: Solution) -> bool:
        """Return True if the layers are a child of this space."""
        space, ends = self.space.layers, self.space.ends
        if (solution.layers != solution.of_layers) != (ends is not None):
            return False
        if ends is not None and solution.ends.name not in ends.offered:
            return False
        return len(solution.of_layers) == len(space) and all(
            names.attention in (PARENT, *(a.name for a in choice.attention))
            and names.ffn in (PARENT, *(a.name for a in choice.ffn))
            for names, choice in zip(solution.of_layers, space, strict=True)
        )

    @cached_property
    def evaluations(self) -> list[tuple[nodes.Eval, Evaluation]]:
        """Evaluations of this search's children, in order of the program."""
        return [
            (self.program.evals[name], evaluation)
            for name, evaluation in self.found.evaluations.items()
            if search_behind(self.program, self.program.evals[name].of) == self.name
        ]

    def children(self, evaluation: Evaluation) -> list[str]:
        """Return the models of an evaluation with this search's architecture: the child, then trained ones."""
        names = (m.model for m in evaluation.models if m.model != PARENT)
        return [name for name in names if search_behind(self.program, name) == self.name]

    def final(self, declaration: nodes.Eval, evaluation: Evaluation) -> str | None:
        """The child that an evaluation is about: the one it names, else the last of `children`; None without children."""
        names = self.children(evaluation)
        return declaration.of if declaration.of in names else names[-1] if names else None

    @cached_property
    def finals(self) -> list[tuple[nodes.Eval, Evaluation, str, dict[str, Figure]]]:
        """Evaluations with the child that each is about, and its figures."""
        found = ((declaration, made, self.final(declaration, made)) for declaration, made in self.evaluations)
        return [(of, made, name, self.figures(made, name)) for of, made, name in found if name]

    def shown(self, declaration: nodes.Eval, evaluation: Evaluation) -> list[str]:
        """Models beside the parent in tables: others that `full` names, then the search's children, the `final` one last."""
        final, children = self.final(declaration, evaluation), self.children(evaluation)
        names = [m.model for m in evaluation.models if m.model in (*children, *declaration.full)]
        return sorted(names, key=lambda name: (name in children, name == final))

    def figures(self, evaluation: Evaluation, model: str) -> dict[str, Figure]:
        """Measured figures of a model; empty where it was not measured."""
        return next((m.figures for m in evaluation.models if m.model == model), {})

    def texts(self, evaluation: Evaluation, model: str) -> dict[str, dict[str, Figure]]:
        """Figures of a model by text; empty where it was not measured."""
        return next((m.texts for m in evaluation.models if m.model == model), {})

    def timing(self, evaluation: Evaluation, scenario: str) -> dict[str, Figure]:
        """Return the figures of the first child with measured times in a scenario, else none. Training changes no times."""
        for name in self.children(evaluation):
            figures = self.figures(evaluation, name)
            if any(key.startswith(scenario + ".") for key in figures):
                return figures
        return {}

    @cached_property
    def scenario(self) -> str | None:
        """The scenario in which times are shown: the first whose time or rate the search bounds, else the first with costs."""
        linear = [r.left for r in self.search.requirements if isinstance(r, nodes.LinearRequirement)]
        metrics = [w.term for left in linear for w in left.terms if isinstance(w.term, nodes.MetricTerm)]
        of_time = (TIME, TOK_PER_S, REQ_PER_S)
        wanted = [term.scenario for term in metrics if METRICS[term.metric].dimension in of_time]
        names = [*wanted, *self.program.scenarios]
        costed = [n for n in names if self.costs and n in self.costs.scenarios]
        return next(iter(costed or names), None)

    @cached_property
    def score(self) -> str | None:
        """The score that the objective minimises, else the first existing score of the space."""
        named = [t.term.score for t in self.search.objective.terms if isinstance(t.term, nodes.ScoreTerm)]
        spare = [n for n, s in self.program.scores.items() if s.space == self.search.space]
        return next((n for n in [*named, *spare] if n in self.found.scores), None)

    @property
    def score_table(self) -> tables.ScoreTable | None:
        """The table of `score`."""
        return self.found.scores[self.score] if self.score else None

    def scenario_costs(self, scenario: str, solution: Solution | None = None) -> ScenarioCosts | None:
        """A scenario's costs at the batch of a solution (default: the best), else its first costs; None without any."""
        listed = self.costs.scenarios.get(scenario, ()) if self.costs else ()
        chosen = solution or self.best
        batch = chosen.batches.get(scenario) if chosen else None
        if self.costs is not None and batch is not None:
            with suppress(KeyError):  # the table was made for other batches
                return costs_at(self.program, self.space, self.costs, scenario, (), batch)
        return next(iter(listed), None)

    def batch(self, scenario: str) -> int | None:
        """The batch that the child runs a scenario at: the one the search chose, else the only one declared, else None."""
        chosen = self.best.batches.get(scenario) if self.best else None
        declared = self.program.scenarios.get(scenario)
        only = declared.batches[0] if declared and len(declared.batches) == 1 else None
        return chosen or only

    def predicted(self, scenario: str, model: str = "", solution: Solution | None = None) -> dict[str, float]:
        """A scenario's predicted metrics, of the parent (`model` is PARENT) or else of a solution (default: the best).

        Metrics that the search recorded are taken from its answer, the others from the cost table.
        """
        chosen = solution or self.best
        costs = self.scenario_costs(scenario, chosen)
        metrics: dict[str, float] = {}
        if model == PARENT:
            layers: tuple[Assignment, ...] = (PARENT_LAYER,) * self.shape.layers
            recorded = self.result.parent_metrics if self.result else {}
        else:
            layers = chosen.layers if chosen else ()
            recorded = chosen.metrics if chosen else {}
        if costs is not None and layers:
            try:
                found = whole_metrics(self.costs.scenarios[scenario], layers, costs) if self.costs else {}
                metrics = {n: float(Fraction(v)) for n, v in found.items() if n not in costs.unknown}
            except (KeyError, ValueError):
                metrics = {}  # the table was made for another version of the space
        prefix = scenario + "."
        return metrics | {k.removeprefix(prefix): v for k, v in recorded.items() if k.startswith(prefix)}
