"""`pzl score`: replace one block of the parent at a time and measure the loss (Puzzle, section 4.2).

Hidden states move up the parent's layers once. Each replacement runs only the layers from its own to the last. All metrics of a
measure are computed at once and cached, so a score with another metric of the same replacements needs no run.
The parent's own pass also gives the block influence of its layers (`scoring.influence`).
An interrupted and resumed run gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.child.healing.groups import HealingGroups
from puzzledsl.data.tasks import encode_choice, read_tasks
from puzzledsl.ir import nodes
from puzzledsl.ir.source_location import span_of
from puzzledsl.ir.tables import ModelDefinition, ScoreTable
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.memory import room_bytes
from puzzledsl.models.placement import reachable_parent
from puzzledsl.pieces.store.origin import origin
from puzzledsl.scoring.children import Children
from puzzledsl.scoring.errors import NoFit, NoPairwiseTerms, NoScoringText
from puzzledsl.scoring.figures_cache import FiguresCache
from puzzledsl.scoring.healed import METHOD, HealedSweep, points_at_a_time
from puzzledsl.scoring.incumbent import Incumbent
from puzzledsl.scoring.influence import block_influence
from puzzledsl.scoring.inputs import ScoreInputs
from puzzledsl.scoring.measures import Accuracy, Divergence, Measure
from puzzledsl.scoring.replacements import Replacement, replacements, runs_to_score
from puzzledsl.scoring.states import States
from puzzledsl.scoring.sweep import Rows, Sweep, final_states
from puzzledsl.scoring.table import fitted_table, score_table
from puzzledsl.scoring.text import healing_blocks, scored_text, text_behind


def run_score(inputs: ScoreInputs) -> ScoreTable:
    """Measure the table of a replace-1-block score: nats for `kl_divergence` and `lm_loss`, the decrease for `accuracy`.

    The parent's own sub-blocks score 0 and are not in the table. `samples` counts scored token positions (or items). The text
    comes after the blocks that the BLD was trained on, if there is enough.
    Raises DiagnosticError: missing pieces, missing or too little text, pairwise terms or a fit for a metric without them.
    """
    score, declaration, method, bld = inputs.score, inputs.declaration, inputs.method, inputs.bld
    work, progress, library, around = inputs.work, inputs.progress, inputs.library, inputs.around
    _refuse(declaration, method)
    unit: Literal["subblock", "block"] = "block" if bld.mode == "coupled" else method.unit
    layers = None if around is None else around.layers
    space = inputs.program.spaces[declaration.space]
    todo = replacements(declaration, space, unit, inputs.jobs, layers)
    runs = runs_to_score(declaration, space)

    runner = LayerRunner(model := reachable_parent(inputs.parent_dir, progress, once=False))
    measure = measure_of(inputs, runner)
    blocks_NS = healing_blocks(inputs, method.healed) if method.healed else None
    digests = _digests(inputs, measure, todo, blocks_NS)
    key = json.dumps([digests["figures"], measure.identity()])
    kept = inputs.build.figures(hashlib.sha256(key.encode()).hexdigest()[:24])
    # Pairwise terms need final hidden states, and a fit needs KLs by position. Other scores do not store these, so such scores
    # have a separate cache, in which every entry implies that its states or KLs are stored.
    more = method.pairwise or method.children > 0
    also = "-states" * method.pairwise + "-kls" * (method.children > 0)
    known = FiguresCache(work / f"figures{also}.jsonl" if more else kept, key)
    rows = _rows(work, measure, method, runner, len(todo))
    incumbent = Incumbent(model, library)
    behind = text_behind(inputs, measure.samples(), runner.device)
    progress.start(f"score {score}", len(todo) + len(runs))
    with torch.inference_mode():
        given = (runner, measure, method.metric, known, progress, incumbent, rows, work, behind)
        sweep = Sweep(*given)
        if blocks_NS is not None:
            held_bytes = room_bytes() // points_at_a_time(runs)
            healing = HealingGroups(
                model, library.load, blocks_NS, measure.groups, work, held_bytes=held_bytes
            )
            sweep = HealedSweep(healing, *given)
        sweep.run(todo, around, runs)
        samples = measure.samples()
        table = score_table(score, method.metric, unit, samples, len(runner), known.figures, layers, runs)
        if more:
            shape = inputs.program.parents[space.parent].shape
            children = Children(todo, shape, runner, measure, incumbent, known, progress)
            form = children.form(method.children, bld.seed, sweep.parent_PH, rows)
            table = fitted_table(table, form, todo)
            _tell_fit(score, table, progress)
            known.copy_to(kept)
    influence = block_influence(sweep.influence, method.tasks or inputs.data or "")
    return table.model_copy(update={"inputs": digests, "influence": influence})


def score_children(
    inputs: ScoreInputs, children: Sequence[ModelDefinition], *, unseen: bool = False
) -> list[float]:
    """Return the losses of whole children, by a score's metric and on its text or items.

    `unseen`: measure on as much text after the score's. Raises DiagnosticError (NotEnoughText) if there is not enough. Has no
    effect on items.
    """
    runner = LayerRunner(model := reachable_parent(inputs.parent_dir, inputs.progress, once=False))
    measure = measure_of(inputs, runner, unseen=unseen)
    incumbent = Incumbent(model, inputs.library)
    with torch.inference_mode():
        measure.set_parent(final_states(runner, measure))
        found = []
        for child in children:
            incumbent.become(child)
            found.append(measure.figures(final_states(runner, measure))[inputs.method.metric])
    return found


def _tell_fit(score: str, table: ScoreTable, progress: Progress) -> None:
    fit = table.fit
    if fit is not None:
        bound = "" if fit.saturation_nats is None else f", positions saturate at {fit.saturation_nats:g} nats"
        text = (
            f"score `{score}` is fitted to {fit.children} children: {fit.scale:.3g} of single KLs{bound}, "
            f"{fit.pairs:.3g} of covariances; children that were left out are predicted within {fit.error_rms:.1%} "
            f"(at most {fit.error_most:.1%})"
        )
        progress.log("fitted", text=text, score=score, **fit.model_dump())


PAIRWISE_SHARE = 4
"""Pairwise terms are means over 1 / PAIRWISE_SHARE of the scored positions, since they take as long as the scores themselves."""


def _rows(work: Path, measure: Measure, method: nodes.ReplaceOne, runner: LayerRunner, count: int) -> Rows:
    positions = max(1, measure.samples() // PAIRWISE_SHARE)
    return Rows(
        States(work / "states.bin", count, positions, runner.hidden_size) if method.pairwise else None,
        States(work / "kls.bin", count, measure.samples(), 1) if method.children else None,
    )


def _refuse(declaration: nodes.Score, method: nodes.ReplaceOne) -> None:
    """Raise DiagnosticError for pairwise terms or a fit with a metric other than KL divergence, or around a child."""
    if method.metric == "kl_divergence" and method.around is None:
        return
    what = f"`{method.metric}`" if method.around is None else "scores around a child"
    if method.pairwise:
        raise DiagnosticError(NoPairwiseTerms(span_of(declaration.where), score=declaration.name, what=what))
    if method.children:
        raise DiagnosticError(NoFit(span_of(declaration.where), score=declaration.name, what=what))


# ---------------------------------------------------------------- measures and their texts


def measure_of(inputs: ScoreInputs, runner: LayerRunner, *, unseen: bool = False) -> Measure:
    """Return the measure of a score on its items or its text; `unseen`: on as much text after it.

    Raises DiagnosticError: no text, too little of it, items that cannot be read.
    """
    method, span = inputs.method, span_of(inputs.declaration.where)
    if method.metric == "accuracy":
        items = read_tasks(inputs.base / (method.tasks or ""), method.samples, span=span)
        encoded = [
            [encode_choice(inputs.tokenizer, item.context, choice) for choice in item.choices]
            for item in items
        ]
        return Accuracy(runner, items, encoded)
    if inputs.data is None:
        raise DiagnosticError(NoScoringText(span, score=inputs.score))
    return Divergence(runner, scored_text(inputs, unseen=unseen), method.samples, top_k=method.top_k)


def _digests(
    inputs: ScoreInputs, measure: Measure, todo: Sequence[Replacement], healing_NS: Tensor | None
) -> dict[str, str]:
    """Return digests, by name, of everything that a table depends on. `figures` is the one that keys the cache."""
    method, around, parent_dir = inputs.method, inputs.around, inputs.parent_dir
    tokens = torch.cat([group.flatten() for group in measure.groups])
    pieces = {piece.job.id: piece.sha256 for piece in inputs.library.pieces()}
    parts = [[r.layer, r.table, r.name, *(pieces.get(p or "", "") for _, _, p in r.parts)] for r in todo]
    child = None if around is None else around.digest()
    described = f"{method.model_dump_json(exclude=None if method.healed else {'healed'})} {parts} {child}"
    made_from = origin(parent_dir, tokens)
    figures = f"{made_from} {parts} {child}"
    healing = {}
    if healing_NS is not None:
        healing["healing_tokens"] = origin(parent_dir, healing_NS)["text"]
        figures += f" healed {METHOD} {healing}"
    return {
        **made_from,
        **healing,
        "replacements": hashlib.sha256(described.encode()).hexdigest(),
        "figures": hashlib.sha256(figures.encode()).hexdigest(),
    }
