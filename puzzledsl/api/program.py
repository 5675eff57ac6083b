"""From a file or a text to a checked program: the way in to everything else."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from puzzledsl.api.session import Run, Session, Variations, check_place, explained
from puzzledsl.base.diagnostics import Diagnostic, DiagnosticError
from puzzledsl.base.progress import Silent

if TYPE_CHECKING:
    from puzzledsl.ir import nodes
    from puzzledsl.ir.tables import Assignment, CostTable, FrontierResult, SearchResult, WhyResult
    from puzzledsl.pipeline.context import Context
    from puzzledsl.plan.space_table import SpaceTable
    from puzzledsl.search.answer import ChildFigures

WHY_S = 60.0


class Program:
    """A program without errors, and the build directory where its stages leave their files.

    What a command `pzl` writes, the methods of the same name read, and the other way round; what they return is what those files
    hold, by the records that docs/artefacts.md describes. Names that methods get are those
    of declarations. Methods raise DiagnosticError for a name that is not declared, a table that is not there yet, and whatever
    the command of the same name would say.
    """

    def __init__(
        self, context: Context, diagnostics: tuple[Diagnostic, ...], sources: Mapping[str, str]
    ) -> None:
        """Wrap a run context. `load` and `parse` make programs."""
        self._session, self._diagnostics = Session(context, sources), diagnostics

    @property
    def file(self) -> Path:
        """The `.pzl` file; of a text, a file that need not exist."""
        return self._session.context.file

    @property
    def build(self) -> Path:
        """The build directory."""
        return self._session.context.build.root

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Warnings of the checker."""
        return self._diagnostics

    @property
    def ir(self) -> nodes.Program:
        """The program as the stages see it: names resolved, units exact, the alternatives of every layer listed."""
        return self._session.context.program

    @property
    def spaces(self) -> tuple[str, ...]:
        """The names of the spaces."""
        return tuple(self._session.context.program.spaces)

    @property
    def searches(self) -> tuple[str, ...]:
        """The names of the searches."""
        return tuple(self._session.context.program.searches)

    @property
    def frontiers(self) -> tuple[str, ...]:
        """The names of the frontiers."""
        return tuple(self._session.context.program.frontiers)

    def space(self, name: str) -> SpaceTable:
        """Return a space after choices, rounding and overrides.

        Returns:
            The space: `.space.layers` has the alternatives of every layer, `.as_json()` is what `pzl show --json` prints.
        """
        from puzzledsl.plan.space_table import SpaceTable

        with self._session.explained():
            self._session.known_space(name, "show")
            program = self._session.context.program
            return SpaceTable(program, program.spaces[name])

    def costs(self, name: str) -> CostTable:
        """Return the costs of a space: those of profiles and tables, and measured ones where `pzl measure` was run.

        Returns:
            `.scenarios["chat"]` has one table a batch, in each `.attention[12]["gqa2"]` the bytes, nanoseconds and FLOP of an
            alternative; `.provenance` the origin of each scenario's costs.
        """
        from puzzledsl.pipeline.inputs import costs_of

        with self._session.explained():
            self._session.known_space(name, "cost")
            return costs_of(self._session.context, name)

    def solve(self, search: str) -> SearchResult:
        """Solve a search, as `pzl solve` does. An answer to the same inputs in the build directory is read back.

        A search that no child satisfies is an answer, too: its `status` is `infeasible` and it has a `conflict`.

        Returns:
            The verified answer: `.status`, `.objective`, `.bound` and `.gap`, the best child's `.layers` and `.metrics` in base
            units (`chat.memory`, `params`, `kl`, `chat.batch`), the parent's `.parent_metrics`, and all `.solutions`.
        """
        from puzzledsl.pipeline.execute import solved
        from puzzledsl.pipeline.process import locked

        with self._session.explained():
            self._session.known_search(search, "solve")
            with locked(self._session.context):
                return solved(self._session.context, search, force=False)[0]

    def frontier(self, name: str) -> FrontierResult:
        """Solve a frontier, as `pzl frontier` does. Points of the same inputs in the build directory are read back.

        Returns:
            `.points`, each with its `.target` in base units, its `.ratio` to the parent's or None, and the `.result` there.
        """
        from puzzledsl.pipeline.compile import chosen
        from puzzledsl.pipeline.execute import solved_frontier
        from puzzledsl.pipeline.process import locked

        with self._session.explained():
            frontiers = self._session.context.program.frontiers
            chosen("frontier", frontiers, [name], self.file, "frontier")
            with locked(self._session.context):
                return solved_frontier(self._session.context, name, force=False)

    def why(
        self,
        search: str,
        layer: int | None = None,
        sub_block: Literal["attention", "ffn"] | None = None,
        *,
        time_s: float = WHY_S,
    ) -> WhyResult:
        """Prove what every other choice would cost, as `pzl why` does.

        Without `layer` all layers are looked at, and requirements, too.

        Args:
            search: A search of the program.
            layer: One layer, from 0.
            sub_block: One sub-block of it. Default: both.
            time_s: Seconds. Regrets that are not proven by then are given between bounds.

        Returns:
            `.sub_blocks` with the regret of each alternative, in the objective's units, and the `.margins` of requirements.

        Raises:
            ValueError: The parent has no such layer, or a sub-block is given without a layer.
        """
        from puzzledsl.ir.tables import WhyResult
        from puzzledsl.pipeline.execute import regrets_of
        from puzzledsl.search.infeasible.verdicts import no_answer

        with self._session.explained():
            self._session.known_search(search, "why")
            space = self.ir.searches[search].space
            check_place(len(self.ir.spaces[space].layers), layer, sub_block)
            result = regrets_of(self._session.context, search, layer, sub_block, time_s=time_s)
            if not isinstance(result, WhyResult):
                problem = no_answer(self._session.context.program, result)
                assert problem is not None, "a search with a solution has regrets"
                raise DiagnosticError(problem)
            return result

    def metrics(
        self,
        search: str,
        layers: Iterable[Assignment | tuple[str, str]],
        batches: Mapping[str, int] | None = None,
    ) -> ChildFigures:
        """Compute the exact metrics of any child, and whether it meets each requirement: for searches of your own.

        Args:
            search: The search whose objective, requirements and tables count.
            layers: One choice a layer, as an answer's `.layers` or as (attention, FFN) pairs of names: `("gqa1", "parent")`.
                Behind them may stand the choice of the ends, as its `.ends`; without it they are the parent's.
            batches: The batch of a scenario, by its name. Default: the largest that fits where the batch is `auto`;
                of listed batches those at which the requirements hold and the objective is best.

        Returns:
            The child: `.objective` and `.metrics` as fractions in base units, its `.requirements`, and whether it is `.feasible`.

        Raises:
            ValueError: A layer may not have its choice, or a scenario has no such batch.
        """
        from puzzledsl.ir.tables import LayerAssignment
        from puzzledsl.search.answer import child_figures

        of_names = (LayerAssignment(attention=c[0], ffn=c[1]) if isinstance(c, tuple) else c for c in layers)
        with self._session.explained():
            return child_figures(self._session.tables_of(search), [*of_names], batches)

    def variations(self, search: str) -> Variations:
        """Ask for answers to a search with other requirements: its tables stay in memory, and nothing is written.

        Args:
            search: A search of the program.

        Returns:
            The variations, to be asked as often as needed: an answer takes milliseconds.
        """
        with self._session.explained():
            return Variations(self._session.tables_of(search), self._session.context)

    def run(
        self,
        until: str | None = None,
        only: str | None = None,
        *,
        progress: bool = False,
        heal: bool = True,
        on: str | None = None,
    ) -> Run:
        """Do every stage that is not done yet, in order, as `pzl run` does. An interrupted run goes on where it was.

        Args:
            until: The last stage to do: `measure`, `bld`, `score`, `solve`, `frontier`, `refine`, `realise`,
                `uptrain`, `eval`, `export`, `report`. Default: all.
            only: The one stage to do, with what the others have left.
            progress: Show bars and lines on stderr, and keep them in `build/log.jsonl`.
            heal: Heal children after assembly.
            on: The address of a Ray cluster that measures, makes the pieces, scores, heals and evaluates.

        Returns:
            The run, with its children.

        Raises:
            ValueError: There is no such stage, or both `until` and `only` are given.
        """
        from puzzledsl.pipeline.execute import run_all
        from puzzledsl.pipeline.process import Reporter
        from puzzledsl.pipeline.tasks import TASKS

        for stage in (until, only):
            if stage is not None and stage not in TASKS:
                raise ValueError(f"{stage!r} is no stage; stages: {', '.join(TASKS)}")
        if until is not None and only is not None:
            raise ValueError("give until or only, not both")
        context = self._session.context
        context.heal, context.on = heal, on
        with self._session.explained():
            if not progress:
                run_all(context, until, only, lambda text: None)
                return Run(self._session)
            try:
                with Reporter(context.build.log) as reporter:
                    context.progress = reporter
                    run_all(context, until, only, reporter.say)
            finally:
                context.progress = Silent()
        return Run(self._session)

    def __repr__(self) -> str:
        found = {"space": self.spaces, "search": self.searches, "frontier": self.frontiers}
        declared = "; ".join(f"{kind} {', '.join(names)}" for kind, names in found.items() if names)
        return f"<Program {self.file.name}: {declared}>"


def load(
    path: str | os.PathLike[str],
    /,
    *,
    build: str | os.PathLike[str] | None = None,
    settings: Mapping[str, object] | None = None,
    **params: object,
) -> Program:
    """Load and check a `.pzl` file.

    Needs no weights, no GPU and no network. Warnings are in `Program.diagnostics`.

    Args:
        path: The file. Relative paths in it start at its directory.
        build: The build directory, where stages leave their files. Default: `build/` beside the file.
        settings: Values for the program's `param`s, also for those that are named like an argument: `{"build": 3}`.
        **params: The same, as `--set` takes them: `speedup="1.3x"`, `layers=12`.

    Returns:
        The checked program.

    Raises:
        DiagnosticError: The program has mistakes. All of them are in `.diagnostics`.
    """
    return _opened(Path(path), None, build, {**(settings or {}), **params})


def parse(
    text: str,
    /,
    *,
    folder: str | os.PathLike[str] = ".",
    build: str | os.PathLike[str] | None = None,
    settings: Mapping[str, object] | None = None,
    **params: object,
) -> Program:
    """Check a program that is given as text, as `load` does a file.

    Args:
        text: The program.
        folder: The directory that relative paths in it start at.
        build: The build directory. Default: `build/` in `folder`.
        settings: Values for the program's `param`s.
        **params: The same.
    """
    return _opened(Path(folder) / "program.pzl", text, build, {**(settings or {}), **params})


def _opened(
    file: Path, text: str | None, build: str | os.PathLike[str] | None, params: dict[str, object]
) -> Program:
    from puzzledsl.pipeline.compile import open_program

    settings = {n: str(v).lower() if isinstance(v, bool) else str(v) for n, v in params.items()}
    opened = open_program(file, settings, None if build is None else Path(build), text)
    if opened.context is None:
        with explained(opened.sources, file.parent):
            raise DiagnosticError(*opened.diagnostics)
    return Program(opened.context, opened.diagnostics, opened.sources)
