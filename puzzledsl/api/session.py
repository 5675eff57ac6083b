"""The run context behind a Program: names checked, tables kept, and errors that show their lines.

Errors that show their diagnostics: whoever sees the traceback sees place, message and help, as on the command line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from puzzledsl.base.diagnostics import DiagnosticError

if TYPE_CHECKING:
    from puzzledsl.alternatives.alternative import SubBlock
    from puzzledsl.ir import nodes
    from puzzledsl.ir.tables import FrontierResult, SearchResult
    from puzzledsl.pipeline.context import Context
    from puzzledsl.report.subject import Subject
    from puzzledsl.search.tables import Tables


@contextmanager
def explained(sources: Mapping[str, str], folder: Path) -> Iterator[None]:
    """Add the rendered diagnostics to a DiagnosticError that passes through, as a note of the exception."""
    try:
        yield
    except DiagnosticError as error:
        if not getattr(error, "__notes__", None):
            from puzzledsl.base.render import render_all, sources_for

            texts = sources_for(error.diagnostics, sources, [Path(), folder])
            error.add_note(render_all(error.diagnostics, texts, color=False).rstrip())
        raise


class Session:
    """One program and its build directory. Methods raise DiagnosticError for a user's mistake."""

    def __init__(self, context: Context, sources: Mapping[str, str]) -> None:
        """`sources`: the texts of the program's files, for rendering."""
        self._stored, self._sources = context, sources
        self._narrowed: tuple[object, ...] = ()
        self._tables: dict[str, tuple[nodes.Program, object, Tables]] = {}

    @property
    def context(self) -> Context:
        """The run context that the commands use, with `used_by` spaces narrowed by the solutions there are now."""
        context = self._stored
        used = [
            space.used_by.search for space in context.program.spaces.values() if space.used_by is not None
        ]
        if used:
            from puzzledsl.pipeline.inputs import file_version
            from puzzledsl.pipeline.rounds.narrow import resolve_used_by

            solutions = tuple(file_version(context.build.solution(search)) for search in used)
            if solutions != self._narrowed:
                self._narrowed = solutions
                context.program, _ = resolve_used_by(context.program, context.build)
        return context

    def explained(self) -> AbstractContextManager[None]:
        """Make a DiagnosticError that is raised inside show its diagnostics with their lines."""
        return explained(self._sources, self._stored.base)

    def known_space(self, name: str, stage: str) -> None:
        """Refuse a name that is no space, and a space that is narrowed by a search without a solution."""
        from puzzledsl.pipeline.inputs import best_solution
        from puzzledsl.pipeline.targets import chosen

        spaces = self.context.program.spaces
        chosen("space", spaces, [name], self._stored.file, stage)
        if (used_by := spaces[name].used_by) is not None:
            best_solution(self.context, used_by.search)

    def ready_search(self, search: str, stage: str) -> None:
        """Refuse a name that is no search, and a search whose tables are not there yet."""
        from puzzledsl.base.diagnostics import DiagnosticError
        from puzzledsl.pipeline.targets import chosen, not_ready

        chosen("search", self.context.program.searches, [search], self._stored.file, stage)
        if (problem := not_ready(self.context, search)) is not None:
            raise DiagnosticError(problem)

    def known_place(self, search: str, layer: int | None, sub_block: SubBlock | None) -> None:
        """Raise ValueError for a layer or a sub-block that is none of the search's space."""
        if layer is None:
            if sub_block is not None:
                raise ValueError("a sub-block is given without a layer")
            return
        program = self.context.program
        count = len(program.spaces[program.searches[search].space].layers)
        if not 0 <= layer < count:
            raise ValueError(f"there is no layer {layer}: the layers are 0 to {count - 1}")
        if sub_block not in (None, "attention", "ffn"):
            raise ValueError(f"sub_block is 'attention' or 'ffn', not {sub_block!r}")

    def tables_of(self, search: str) -> Tables:
        """The tables of a search. They are kept as long as no stage has written any since."""
        from puzzledsl.pipeline.inputs import costs_of, scores_of, tables_version
        from puzzledsl.search.tables import tables_of

        context = self.context
        program, version = context.program, tables_version(context)
        known = self._tables.get(search)
        if known is None or known[0] is not program or known[1] != version:
            self.ready_search(search, "solve")
            costs = costs_of(context, program.searches[search].space)
            tables = tables_of(program, search, costs, scores_of(context, search))
            self._tables[search] = known = (program, version, tables)
        return known[2]

    def subject(
        self,
        search: str,
        result: SearchResult | None = None,
        frontier: FrontierResult | None = None,
        requirements: tuple[nodes.Requirement, ...] | None = None,
    ) -> Subject:
        """A search, or one with other requirements, with the tables that pictures are drawn from."""
        from puzzledsl.pipeline.inputs import costs_of, scores_of
        from puzzledsl.report.artefacts import Artefacts
        from puzzledsl.report.subject import Subject

        program = self.context.program
        if requirements is not None:
            changed = program.searches[search].model_copy(update={"requirements": requirements})
            program = program.model_copy(update={"searches": {**program.searches, search: changed}})
        space = program.searches[search].space
        found = Artefacts(
            program,
            results={} if result is None else {search: result},
            costs={space: costs_of(self.context, space)},
            scores=scores_of(self.context, search),
            frontiers={} if frontier is None else {frontier.frontier: frontier},
        )
        return Subject(found, search)
