"""Inputs of refining: a search with `refine`, its tables, and all that children are built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.progress import Progress
from puzzledsl.cluster.tasks import Executor, LocalExecutor
from puzzledsl.ir.nodes import Program, Refine, Search
from puzzledsl.ir.tables import Assignment, BldJob, CostTable, ScoreTable
from puzzledsl.pieces.store.library import Library
from puzzledsl.refining.candidates import Candidates
from puzzledsl.scoring.inputs import ScoreInputs


@dataclass(frozen=True)
class RefineInputs:
    """Inputs of measuring children of one search.

    `jobs` are those of the space's pieces in `library`. Relative data paths start at `base`. `work` is for temporary files.
    Judged children are healed if `heal`, by a worker of `executor`; what is read and measured is kept in `build`.
    `healing_work` gives the folder in which a child is healed, which building it reads; None: in `work`.
    `figures`: file of measured losses, in place of the one in the build directory.
    """

    program: Program
    search: str
    costs: CostTable
    scores: Mapping[str, ScoreTable]
    parent_dir: Path
    base: Path
    library: Library
    jobs: Sequence[BldJob]
    work: Path
    progress: Progress
    heal: bool = True
    executor: Executor = field(default_factory=LocalExecutor)
    healing_work: Callable[[Sequence[Assignment]], Path] | None = None
    figures: Path | None = None

    @property
    def build(self) -> BuildDir:
        """The build directory, which holds the library."""
        return BuildDir(self.library.root.parent)

    @property
    def refine(self) -> Refine:
        """The settings of `refine`. Raises ValueError for a search without."""
        refine = self.program.searches[self.search].refine
        if refine is None:
            raise ValueError(f"search {self.search} has nothing to refine")
        return refine

    def with_search(self, search: Search) -> RefineInputs:
        """Return the inputs with another search of the same name."""
        searches = {**self.program.searches, search.name: search}
        return replace(self, program=self.program.model_copy(update={"searches": searches}))

    def candidates(self) -> Candidates:
        """Return the candidate children of the search. Raises DiagnosticError if a table is missing."""
        return Candidates(self.program, self.search, self.costs, self.scores)

    def of_score(self, score: str) -> ScoreInputs:
        """Return the inputs of measuring that score."""
        given = (self.parent_dir, self.base, self.library, self.jobs, self.work, self.progress)
        return ScoreInputs(self.program, score, *given)
