"""The session behind a `Program`: its run context, checks of names and cached tables; and its `Run` and `Variations`.

A DiagnosticError that leaves the API carries its rendered diagnostics, so that a traceback shows place, message and help.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from puzzledsl.base.diagnostics import DiagnosticError

if TYPE_CHECKING:
    from transformers import PreTrainedModel  # noqa: TID251 (a type only)

    from puzzledsl.alternatives.alternative import SubBlock
    from puzzledsl.ir import nodes
    from puzzledsl.ir.nodes import Requirement, Search
    from puzzledsl.ir.tables import SearchResult, WhyResult
    from puzzledsl.pipeline.context import Context
    from puzzledsl.pipeline.dry_run import TaskStatus
    from puzzledsl.report.subject import Subject
    from puzzledsl.search.problem.problem import Builder
    from puzzledsl.search.tables import Tables


@contextmanager
def explained(sources: Mapping[str, str], folder: Path) -> Iterator[None]:
    """Add the rendered diagnostics as a note to a DiagnosticError raised inside. `folder`: has the files that `sources` lacks."""
    try:
        yield
    except DiagnosticError as error:
        if not getattr(error, "__notes__", None):
            from puzzledsl.base.render import render_all, sources_for

            texts = sources_for(error.diagnostics, sources, [Path(), folder])
            error.add_note(render_all(error.diagnostics, texts, color=False).rstrip())
        raise


def check_place(layers: int, layer: int | None, sub_block: SubBlock | None) -> None:
    """Raise ValueError unless `layer` is 0 to `layers` - 1 or None, and `sub_block` attention or ffn (of a layer) or None."""
    if layer is None and sub_block is not None:
        raise ValueError("a sub-block is given without a layer")
    if layer is not None and not 0 <= layer < layers:
        raise ValueError(f"there is no layer {layer}: the layers are 0 to {layers - 1}")
    if sub_block not in (None, "attention", "ffn"):
        raise ValueError(f"sub_block is 'attention' or 'ffn', not {sub_block!r}")


class Session:
    """One program and its build directory. Methods raise DiagnosticError for a user's mistake."""

    def __init__(self, context: Context, sources: Mapping[str, str]) -> None:
        """Wrap a run context. `sources`: the texts of the program's files, from which diagnostics show lines."""
        self._stored, self._sources = context, sources
        self._tables: dict[str, tuple[nodes.Program, object, Tables]] = {}

    @property
    def context(self) -> Context:
        """The run context that commands use, its `used_by` spaces narrowed by the solutions that are on disk now."""
        from puzzledsl.pipeline.compile import resolve_used_by

        context = self._stored
        context.program, _ = resolve_used_by(context.program, context.build)
        return context

    def explained(self) -> AbstractContextManager[None]:
        """Return a context manager that adds the rendered diagnostics to a DiagnosticError raised inside, as a note."""
        return explained(self._sources, self._stored.base)

    def known_space(self, name: str, stage: str) -> None:
        """Raise DiagnosticError for an unknown space, or an unsolved `used_by` search. `stage`: the command that asks."""
        from puzzledsl.pipeline.compile import chosen
        from puzzledsl.pipeline.inputs import best_solution

        spaces = self.context.program.spaces
        chosen("space", spaces, [name], self._stored.file, stage)
        if (used_by := spaces[name].used_by) is not None:
            best_solution(self.context, used_by.search)

    def known_search(self, search: str, stage: str) -> None:
        """Raise DiagnosticError for an unknown search. `stage`: the command that asks, for the message."""
        from puzzledsl.pipeline.compile import chosen

        chosen("search", self.context.program.searches, [search], self._stored.file, stage)

    def tables_of(self, search: str) -> Tables:
        """Return the checked costs and scores of a search, cached until a table changes. Raises DiagnosticError."""
        from puzzledsl.pipeline.inputs import ready_tables, tables_version
        from puzzledsl.search.tables import tables_of

        context = self.context
        program, version = context.program, tables_version(context)
        known = self._tables.get(search)
        if known is None or known[0] is not program or known[1] != version:
            self.known_search(search, "solve")
            tables = tables_of(program, search, *ready_tables(context, search))
            self._tables[search] = known = (program, version, tables)
        return known[2]


class Run:
    """The state of a program's build directory after a run."""

    def __init__(self, session: Session) -> None:
        """Wrap the session whose build directory is shown. `Program.run` makes runs."""
        self._session = session

    @property
    def build(self) -> Path:
        """The build directory."""
        return self._session.context.build.root

    @property
    def report(self) -> Path | None:
        """The report; None before the stage `report` was done."""
        path = self._session.context.build.report
        return path if path.is_file() else None

    @property
    def summary(self) -> str:
        """Parent against child, and the places of what was made, as `pzl run` prints them."""
        from puzzledsl.pipeline.execute import summary

        with self._session.explained():
            return summary(self._session.context)

    def status(self) -> tuple[TaskStatus, ...]:
        """The state of every task, as `pzl status` says it.

        Returns:
            For each task its `task` (`.stage`, `.name`), a `word` (`done`, `missing`, `stale`, `failed`, `blocked`), and `why`.
        """
        from puzzledsl.pipeline.dry_run import statuses

        with self._session.explained():
            return tuple(statuses(self._session.context))

    def child(self, name: str, *, dtype: Any = None, device: Any = "cpu") -> PreTrainedModel:
        """Load a child that was made. Imports torch and transformers.

        Args:
            name: The search or the uptraining that made it.
            dtype: The `torch.dtype` of its weights. Default: `torch.float32`.
            device: A torch device or its name.

        Returns:
            A transformers model in evaluation mode, which `generate` and `save_pretrained` take as any other.

        Raises:
            DiagnosticError: The program has no such search or uptraining, or the child is not made yet.
        """
        from puzzledsl.pipeline.compile import chosen
        from puzzledsl.pipeline.inputs import child_task

        ctx, wanted = self._session.context, {} if dtype is None else {"dtype": dtype}
        with self._session.explained():
            declared = {**ctx.program.searches, **ctx.program.uptrains}
            chosen("search or uptrain", declared, [name], ctx.file, "realise")
            ctx.made(*child_task(ctx.program, name), "the child")
            from puzzledsl.child.checkpoint.contents import load_child

            return load_child(ctx.build.model(name), device=device, **wanted)

    def __repr__(self) -> str:
        return f"<Run in {self.build}>"


SOLVE_S, EXPLAIN_S, WHY_S = 60.0, 20.0, 20.0


class Variations:
    """Answers to a search with other requirements. Each is proven, or has its gap, and is verified; nothing is written.

    Requirements are those of `search`, changed copies of them, or fewer; what `pzl explore` shows comes from here. Safe for
    several threads.
    """

    def __init__(self, tables: Tables, context: Context) -> None:
        """Prepare the variations of a search whose tables are checked. `Program.variations` makes variations."""
        from puzzledsl.search.problem.problem import Builder

        self._context, self._builder = context, Builder(tables)

    @property
    def search(self) -> Search:
        """The search as the program declares it."""
        return self._builder.tables.search

    def _asked(self, requirements: Iterable[Requirement], time_s: float) -> Builder:
        """Return the builder of the search with other requirements, one solution, and a time limit."""
        limited = self.search.solver.model_copy(update={"time_s": Fraction(time_s)})
        changes = {"requirements": tuple(requirements), "solutions": 1, "solver": limited}
        return self._builder.for_requirements(self.search.model_copy(update=changes))

    def solve(self, requirements: Iterable[Requirement], *, time_s: float = SOLVE_S) -> SearchResult:
        """Solve the search with these requirements instead of its own. Of an infeasible one no conflict is sought.

        Args:
            requirements: What the child must meet: the search's own, changed copies of them, or fewer.
            time_s: Seconds. An answer that is not proven by then has its gap.

        Returns:
            The verified answer.
        """
        from puzzledsl.search.solve import solve_built

        return solve_built(self._asked(requirements, time_s), explain=False)

    def explain(self, requirements: Iterable[Requirement], *, time_s: float = EXPLAIN_S) -> SearchResult:
        """Solve as `solve` does, and of an infeasible search find `conflict` and `relaxation`, in as many seconds again."""
        from puzzledsl.search.solve import solve_built

        return solve_built(self._asked(requirements, time_s))

    def why(
        self,
        requirements: Iterable[Requirement],
        layer: int,
        sub_block: Literal["attention", "ffn"] | None = None,
        *,
        time_s: float = WHY_S,
    ) -> WhyResult | SearchResult:
        """Prove what every other choice of one layer would cost under these requirements, as `Program.why` does.

        Returns:
            The regrets; the answer itself where no child meets the requirements.
        """
        from puzzledsl.pipeline.execute import of_sub_block
        from puzzledsl.search.sensitivity.why import why_built

        check_place(len(self._builder.tables.layers), layer, sub_block)
        return of_sub_block(why_built(self._asked(requirements, time_s), time_s, [layer]), sub_block)

    def subject(self, requirements: Iterable[Requirement], result: SearchResult) -> Subject:
        """Return the search with these requirements and an answer to them: what pictures of `puzzledsl.report` are drawn from."""
        from puzzledsl.pipeline.inputs import read_tables
        from puzzledsl.report.subject import Artefacts, Subject

        name, context = self.search.name, self._context
        search = self.search.model_copy(update={"requirements": tuple(requirements)})
        program = context.program.model_copy(update={"searches": {**context.program.searches, name: search}})
        costs, scores = read_tables(context, name)
        found = Artefacts(program, results={name: result}, costs={search.space: costs}, scores=scores)
        return Subject(found, name)

    def __repr__(self) -> str:
        return f"<Variations of {self.search.name}>"
