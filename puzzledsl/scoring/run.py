"""`pzl score`: replace one block of the parent at a time and measure the loss (Puzzle, section 4.2).

Hidden states move up the parent's layers once. Each replacement runs only the layers from its own to the last. All metrics of a
measure are computed at once and cached, so a score with another metric of the same replacements needs no run. An interrupted
and resumed run gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from puzzledsl.alternatives.alternative import EndName
from puzzledsl.alternatives.precision import PrecisionName
from puzzledsl.cluster.tasks import Task, Teams, TeamSpec
from puzzledsl.ir.tables import ScoreTable
from puzzledsl.pieces.store.library import origin
from puzzledsl.scoring.inputs import Facts, ScoreInputs, Subject
from puzzledsl.scoring.measures import Figures
from puzzledsl.scoring.replacements import (
    FiguresCache,
    Name,
    Replacement,
    Run,
    ScoringWork,
    ends_to_score,
    replacements,
    runs_to_score,
    score_table,
)
from puzzledsl.scoring.sweep import METHOD, Unit

PAGED_PARTS = 32
"""Tasks that the replacements of a paged parent are divided into on a cluster. Each of them reads the layers once."""


class Scorer:
    """Measures one score's replacements on the workers of an executor, in this process or elsewhere, with the same results."""

    def __init__(self, teams: Teams, inputs: ScoreInputs) -> None:
        """Ask a worker for the facts. Raises DiagnosticError: those of `Subject`, and failures of a cluster."""
        self._teams, self._inputs = teams, inputs
        self.facts: Facts = self._asked(Task.call("facts", "facts"))

    def measure(self, known: FiguresCache, effort: ScoringWork) -> None:
        """Measure everything that is not in `known`, and store it there."""
        inputs, units = self._inputs, self.facts.units
        wanted = [n for n, unit in enumerate(units) if any(each.entry not in known.figures for each in unit)]
        inputs.progress.advance(sum(map(len, units)) - sum(len(units[n]) for n in wanted), kept=True)
        parts = (Task.call("units", "measuring", part) for part in self._parts(wanted))
        for task, result in self._teams.run([Task.call("parent", "parent"), *parts]):
            if task.name == "parent":
                self._ready(wanted, effort)
            else:
                for number, found in result:
                    self._keep(units[number], found, known, effort)

    def _ready(self, wanted: Sequence[int], effort: ScoringWork) -> None:
        """Begin to count the time of units, of which several are on their way at once in this process."""
        facts, scored = self.facts, [scored for n in wanted for scored in self.facts.units[n]]
        work = effort.behind + sum(map(effort.above, scored))
        if not self._inputs.executor.is_local:
            self._inputs.progress.ready(work)
            return
        at_once = len(scored) if facts.paged and facts.healing_NS is None else facts.at_once
        self._inputs.progress.ready(work, at_once, cold=at_once)

    def _parts(self, wanted: Sequence[int]) -> list[Sequence[int]]:
        """Return the units that a worker measures one after the other: elsewhere each alone, for all workers to have some."""
        if self._inputs.executor.is_local:
            return [wanted] if wanted else []
        size = -(-len(wanted) // PAGED_PARTS) if self.facts.paged else 1
        return [wanted[start : start + size] for start in range(0, len(wanted), max(1, size))]

    def _keep(self, unit: Unit, found: Sequence[Figures], known: FiguresCache, effort: ScoringWork) -> None:
        """Store the results of a unit and report them: the first counts for all, which end together."""
        advance, work = self._inputs.progress.advance, sum(map(effort.above, unit))
        for scored, figures in zip(unit, found, strict=True):
            if scored.entry in known.figures:  # measured before, unlike others of the unit
                advance(work=work)
            else:
                known.add(scored.entry, figures)
                named = f"{scored.length} dropped" if isinstance(scored, Run) else scored.name
                score = figures[self._inputs.method.metric]
                advance(work=work, layer=scored.layer, alternative=named, score=score)
            work = 0.0

    def ends(
        self, known: FiguresCache, ends: Sequence[tuple[EndName, PrecisionName]], effort: ScoringWork
    ) -> dict[str, dict[str, float]]:
        """Return the score of each end of the parent in each storage type, by site and name. After `measure`."""
        found: dict[str, dict[str, float]] = {site: {} for site, _ in ends}
        for site, dtype in ends:
            name = _end_name(site, dtype)
            kept = name in known.figures
            if not kept:
                known.add(name, self._asked(Task.call("end", "end", site, dtype)))
            score = found[site][name[-1]] = known.figures[name][self._inputs.method.metric]
            work = 0.0 if kept else effort.whole
            self._inputs.progress.advance(kept=kept, work=work, site=site, alternative=name[-1], score=score)
        return found

    def _asked(self, task: Task) -> Any:
        ((_, result),) = self._teams.run([task])
        return result


FORMER_SETTINGS = {
    '"unit":': '"top_k":null,"unit":',
    '"runs":': '"children":0,"runs":',
    '"data":': '"around":null,"rounds":1,"data":',
}
BEHIND = -2
"""The layer of an end's cached entry: none."""


def run_score(inputs: ScoreInputs) -> ScoreTable:
    """Measure the table of a replace-1-block score: nats for `kl_divergence` and `lm_loss`, the decrease for `accuracy`.

    The parent's own sub-blocks score 0 and are not in the table. `samples` counts scored token positions (or items). The text
    comes after the blocks that the BLD was trained on, if there is enough.
    Raises DiagnosticError: missing pieces, missing or too little text.
    """
    score, declaration, method, bld = inputs.name, inputs.declaration, inputs.method, inputs.bld
    progress = inputs.progress
    unit: Literal["subblock", "block"] = "block" if bld.mode == "coupled" else method.unit
    space = inputs.program.spaces[declaration.space]
    todo = replacements(declaration, space, unit, inputs.jobs)
    shape = inputs.program.parents[space.parent].shape
    runs = runs_to_score(declaration, space, shape)
    ends = ends_to_score(space)

    spec = TeamSpec(partial(Subject, inputs.sent(is_sent=True), todo, runs), threads=1)
    with inputs.executor.open(spec, progress) as teams:
        scorer = Scorer(teams, inputs)
        facts = scorer.facts
        digests = _digests(inputs, facts, todo, ends)
        key = json.dumps([digests["figures"], facts.identity])
        known = FiguresCache(inputs.build, "", key)
        progress.start(f"score {score}", len(todo) + len(runs) + len(ends))
        healed = 0.0 if facts.healing_NS is None else facts.healing_NS.numel() / len(facts.tokens)
        unknown = sum(_end_name(*end) not in known.figures for end in ends)
        effort = ScoringWork.of(shape, healed, wholes=unknown)
        scorer.measure(known, effort)
        of_ends = scorer.ends(known, ends, effort)
        table = score_table(score, method.metric, unit, facts.samples, facts.layers, known.figures, runs)
    return table.model_copy(update={"inputs": digests, **of_ends})


def _end_name(site: EndName, dtype: PrecisionName) -> Name:
    """Return the name under which an end's figures are cached."""
    return BEHIND, site, f"parent@{dtype}"


def _digests(
    inputs: ScoreInputs,
    facts: Facts,
    todo: Sequence[Replacement],
    ends: Sequence[tuple[EndName, PrecisionName]],
) -> dict[str, str]:
    """Return digests, by name, of everything that a table depends on. `figures` is the one that keys the cache."""
    method, parent_dir = inputs.method, inputs.parent_dir
    pieces = inputs.library.checksums()
    parts = [
        [
            r.layer,
            r.table,
            r.name,
            *(pieces.get(p.piece or "", "") if p.alternative.trainable else "" for p in r.parts),
        ]
        for r in todo
    ]
    settings = method.model_dump_json(exclude=None if method.healed else {"healed"})
    # with settings of earlier versions, so that tables stay the same bytes
    for setting, written in FORMER_SETTINGS.items():
        settings = settings.replace(setting, written)
    described = f"{settings} {parts} None"
    made_from = origin(parent_dir, facts.tokens)
    figures = f"{made_from} {parts} None"
    if ends:
        heads = [pieces.get(job.id) for job in inputs.jobs if job.head is not None]
        described, figures = f"{described} {ends} {heads}", f"{figures} {heads}"
    healing = {}
    if facts.healing_NS is not None:
        healing["healing_tokens"] = origin(parent_dir, facts.healing_NS)["text"]
        figures += f" healed {METHOD} {healing}"
    return {
        **made_from,
        **healing,
        "replacements": hashlib.sha256(described.encode()).hexdigest(),
        "figures": hashlib.sha256(figures.encode()).hexdigest(),
    }
