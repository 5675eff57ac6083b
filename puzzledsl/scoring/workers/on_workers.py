"""Scoring on the workers of a cluster. Results are stored by the process that runs the score, which loads no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from puzzledsl.alternatives.alternative import EndName
from puzzledsl.alternatives.precision import PrecisionName
from puzzledsl.cluster.tasks import Teams
from puzzledsl.scoring.figures_cache import FiguresCache
from puzzledsl.scoring.influence import Sums
from puzzledsl.scoring.inputs import ScoreInputs
from puzzledsl.scoring.measures import Figures
from puzzledsl.scoring.position_kls import PositionKls
from puzzledsl.scoring.replacements import Replacement
from puzzledsl.scoring.sweep.sweep import keep
from puzzledsl.scoring.sweep.units import figures_name, is_known, names_of
from puzzledsl.scoring.table import INCUMBENT
from puzzledsl.scoring.workers.spans import ParentInSpans
from puzzledsl.scoring.workers.whole import WholeParent


class OnWorkers:
    """A `scoring.scorer.Scorer` on the workers of a cluster."""

    def __init__(self, teams: Teams, inputs: ScoreInputs, tasks: WholeParent | ParentInSpans) -> None:
        """Ask a worker for the facts. Raises DiagnosticError: those of `Subject`, and failures of the cluster."""
        self._teams, self._inputs, self._tasks = teams, inputs, tasks
        ((_, (self.facts, self._units)),) = teams.run([tasks.facts()])
        self.influence: Sequence[Sums] = ()

    def measure(self, known: FiguresCache, rows: PositionKls) -> None:
        """See `Scorer`."""
        inputs, around = self._inputs, self._inputs.around
        wanted = [n for n, unit in enumerate(self._units) if not is_known(unit, known)]
        inputs.progress.advance(sum(map(len, self._units)) - sum(len(self._units[n]) for n in wanted))
        tasks = [self._tasks.parent(), *(self._tasks.unit(n, self._units[n]) for n in wanted)]
        for task, result in self._teams.run(tasks):
            if task.name == "parent":
                self.influence, child = result
                if around is not None and INCUMBENT not in known.figures:
                    known.add(INCUMBENT, child)
            else:
                unit = self._units[task.name]
                fresh = [
                    None if figures_name(scored) in known.figures else each
                    for (_, scored), each in zip(unit, result, strict=True)
                ]
                keep(unit, fresh, rows, known, inputs.progress, inputs.method.metric)
        order = [*([] if around is None else [INCUMBENT]), *names_of(self._units)]
        known.restore_order(order, shuffled=len(wanted) > 0)

    def end(self, site: EndName, dtype: PrecisionName) -> Figures:
        """See `Scorer`."""
        ((_, figures),) = self._teams.run([self._tasks.end(site, dtype)])
        found: Figures = figures
        return found

    def wholes(self, children: Sequence[Sequence[Replacement]]) -> Iterator[tuple[int, Figures]]:
        """See `Scorer`."""
        for task, figures in self._teams.run([self._tasks.whole(n, c) for n, c in enumerate(children)]):
            yield task.name, figures
