"""`pzl score`: replace one block of the parent at a time and measure the loss (Puzzle, section 4.2).

Hidden states move up the parent's layers once. Each replacement runs only the layers from its own to the last. All metrics of a
measure are computed at once and cached, so a score with another metric of the same replacements needs no run.
The parent's own pass also gives the block influence of its layers (`scoring.influence`).
An interrupted and resumed run gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch

from puzzledsl.alternatives.alternative import EndName
from puzzledsl.alternatives.precision import PrecisionName
from puzzledsl.base.progress import Progress
from puzzledsl.cluster.tasks import Task, TeamSpec
from puzzledsl.ir.tables import ModelDefinition, ScoreTable
from puzzledsl.pieces.store.origin import origin
from puzzledsl.scoring.children import Children
from puzzledsl.scoring.figures_cache import FiguresCache
from puzzledsl.scoring.influence import block_influence
from puzzledsl.scoring.inputs import ScoreInputs
from puzzledsl.scoring.position_kls import StoredKls
from puzzledsl.scoring.replacements import Replacement, Run, ends_to_score, replacements, runs_to_score
from puzzledsl.scoring.scorer import Here, Scorer
from puzzledsl.scoring.subject import Facts
from puzzledsl.scoring.sweep.healed import METHOD
from puzzledsl.scoring.table import fitted_table, score_table
from puzzledsl.scoring.workers.judge import JudgeMaker
from puzzledsl.scoring.workers.on_workers import OnWorkers
from puzzledsl.scoring.workers.room import tasks_for

BEHIND = -2
"""The layer of an end's cached entry: none, and not that of a child around which scores are made (-1)."""


def run_score(inputs: ScoreInputs) -> ScoreTable:
    """Measure the table of a replace-1-block score: nats for `kl_divergence` and `lm_loss`, the decrease for `accuracy`.

    The parent's own sub-blocks score 0 and are not in the table. `samples` counts scored token positions (or items). The text
    comes after the blocks that the BLD was trained on, if there is enough.
    Raises DiagnosticError: missing pieces, missing or too little text.
    """
    score, declaration, method, bld = inputs.score, inputs.declaration, inputs.method, inputs.bld
    work, progress, around = inputs.work, inputs.progress, inputs.around
    unit: Literal["subblock", "block"] = "block" if bld.mode == "coupled" else method.unit
    layers = None if around is None else around.layers
    space = inputs.program.spaces[declaration.space]
    todo = replacements(declaration, space, unit, inputs.jobs, layers)
    runs = runs_to_score(declaration, space, inputs.program.parents[space.parent].shape)
    ends = ends_to_score(space)

    with torch.inference_mode(), _scorer(inputs, todo, runs) as scorer:
        facts = scorer.facts
        digests = _digests(inputs, facts, todo, ends)
        key = json.dumps([digests["figures"], facts.identity])
        kept = inputs.build.figures(hashlib.sha256(key.encode()).hexdigest()[:24])
        # A fit needs KLs by position. Other scores do not store these, so fitted scores have a separate cache, in which every
        # entry implies that its KLs are stored.
        fits = facts.kls.kept
        known = FiguresCache(work / "figures-kls.jsonl" if fits else kept, key)
        rows = StoredKls.at(work / "kls.bin", facts.kls, len(todo), facts.samples)
        progress.start(f"score {score}", len(todo) + len(runs) + len(ends))
        scorer.measure(known, rows)
        of_ends = _scores_of_ends(scorer, known, ends, method.metric, progress)
        sizes = facts.samples, facts.layers
        table = score_table(score, method.metric, unit, *sizes, known.figures, layers, runs)
        if fits:
            shape = inputs.program.parents[space.parent].shape
            children = Children(todo, shape, scorer, known, progress)
            table = fitted_table(table, children.fitted(method.children, bld.seed, rows.all()), todo)
            _tell_fit(score, table, progress)
            known.copy_to(kept)
    influence = block_influence(scorer.influence, method.tasks or inputs.data or "")
    return table.model_copy(update={"inputs": digests, "influence": influence, **of_ends})


def _scores_of_ends(
    scorer: Scorer,
    known: FiguresCache,
    ends: Sequence[tuple[EndName, PrecisionName]],
    metric: str,
    progress: Progress,
) -> dict[str, dict[str, float]]:
    """Return the score of each end of the parent in each storage type, by site and name."""
    found: dict[str, dict[str, float]] = {site: {} for site, _ in ends}
    for site, dtype in ends:
        alternative = f"parent@{dtype}"
        name = BEHIND, site, alternative
        if name not in known.figures:
            known.add(name, scorer.end(site, dtype))
        found[site][alternative] = known.figures[name][metric]
        progress.advance(site=site, alternative=alternative, score=found[site][alternative])
    return found


@contextmanager
def _scorer(inputs: ScoreInputs, todo: Sequence[Replacement], runs: Sequence[Run]) -> Iterator[Scorer]:
    """Yield the scorer in this process, or the one on the workers of the inputs' executor."""
    if inputs.executor.is_local:
        yield Here(inputs, todo, runs)
        return
    tasks = tasks_for(inputs, todo, runs)
    with inputs.executor.open(tasks.spec(), inputs.progress) as teams:
        yield OnWorkers(teams, inputs, tasks)


def score_children(
    inputs: ScoreInputs, children: Sequence[ModelDefinition], *, unseen: bool = False
) -> list[float]:
    """Return the losses of whole children, by a score's metric and on its text or items.

    `unseen`: measure on as much text after the score's. Raises DiagnosticError (NotEnoughText) if there is not enough. Has no
    effect on items.
    """
    tasks = [Task.call(number, "loss", child) for number, child in enumerate(children)]
    with inputs.executor.open(TeamSpec(JudgeMaker.of(inputs, unseen=unseen)), inputs.progress) as teams:
        found = {task.name: loss for task, loss in teams.run(tasks)}
    return [found[number] for number in range(len(children))]


def _tell_fit(score: str, table: ScoreTable, progress: Progress) -> None:
    fit = table.fit
    if fit is not None:
        bound = "" if fit.saturation_nats is None else f", positions saturate at {fit.saturation_nats:g} nats"
        text = (
            f"score `{score}` is fitted to {fit.children} children: {fit.scale:.3g} of single KLs{bound}; "
            f"children that were left out are predicted within {fit.error_rms:.1%} (at most {fit.error_most:.1%})"
        )
        progress.log("fitted", text=text, score=score, **fit.model_dump())


def _digests(
    inputs: ScoreInputs,
    facts: Facts,
    todo: Sequence[Replacement],
    ends: Sequence[tuple[EndName, PrecisionName]],
) -> dict[str, str]:
    """Return digests, by name, of everything that a table depends on. `figures` is the one that keys the cache."""
    method, around, parent_dir = inputs.method, inputs.around, inputs.parent_dir
    pieces = {piece.job.id: piece.sha256 for piece in inputs.library.pieces()}
    parts = [[r.layer, r.table, r.name, *(pieces.get(p or "", "") for _, _, p in r.parts)] for r in todo]
    child = None if around is None else around.digest()
    described = f"{method.model_dump_json(exclude=None if method.healed else {'healed'})} {parts} {child}"
    made_from = origin(parent_dir, facts.tokens)
    figures = f"{made_from} {parts} {child}"
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
