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

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.child.healing.groups import HealingGroups
from puzzledsl.data.tasks import encode_choice, read_tasks
from puzzledsl.ir import nodes
from puzzledsl.ir.source_location import span_of
from puzzledsl.ir.tables import BldJob, ModelDefinition, ScoreTable
from puzzledsl.models.families.load import check_tokens, load_tokenizer
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.memory import room_bytes
from puzzledsl.models.placement import reachable_parent
from puzzledsl.pieces.store.library import Library
from puzzledsl.pieces.store.origin import origin
from puzzledsl.scoring.children import Children
from puzzledsl.scoring.errors import NoFit, NoPairwiseTerms, NoScoringText
from puzzledsl.scoring.healed import METHOD, HealedSweep, points_at_a_time
from puzzledsl.scoring.incumbent import Incumbent
from puzzledsl.scoring.influence import block_influence
from puzzledsl.scoring.measures import Accuracy, Divergence, Measure
from puzzledsl.scoring.partial import Partial
from puzzledsl.scoring.replacements import Replacement, replacements, runs_to_score
from puzzledsl.scoring.states import States
from puzzledsl.scoring.sweep import Rows, Sweep, final_states
from puzzledsl.scoring.table import fitted_table, score_table
from puzzledsl.scoring.text import healing_blocks, scored_text, text_behind


def run_score(
    program: nodes.Program,
    score: str,
    parent_dir: Path,
    base: Path,
    library: Library,
    jobs: Sequence[BldJob],
    work: Path,
    progress: Progress,
    around: ModelDefinition | None = None,
) -> ScoreTable:
    """Measure the table of a replace-1-block score: nats for `kl_divergence` and `lm_loss`, the decrease for `accuracy`.

    `jobs` are those of the score's BLD, whose pieces are in `library`. The parent's own sub-blocks score 0 and are not in the
    table. `samples` counts scored token positions (or items). The text comes after the blocks that the BLD was trained on, if
    there is enough. `work` holds unfinished work and may be removed when the table is written.
    With `around`, a child, replacements are made in that child and still compared with the parent.
    Raises DiagnosticError: missing pieces, missing or too little text, pairwise terms or a fit for a metric without them.
    """
    declaration = program.scores[score]
    method = declaration.method
    if not isinstance(method, nodes.ReplaceOne) or declaration.bld is None:
        raise ValueError(f"score {score} is not measured, it is read from a table")
    _refuse(declaration, method)
    bld = program.blds[declaration.bld]
    unit: Literal["subblock", "block"] = "block" if bld.mode == "coupled" else method.unit
    layers = None if around is None else around.layers
    space = program.spaces[declaration.space]
    todo, runs = replacements(declaration, space, unit, jobs, layers), runs_to_score(declaration, space)

    runner = LayerRunner(model := reachable_parent(parent_dir, progress, once=False))
    measure = measure_of(program, declaration, method, bld, runner, parent_dir, base, library, progress)
    blocks_NS = _healing_blocks(program, declaration, method, bld, parent_dir, base, library)
    inputs = _inputs(parent_dir, measure, method, library, todo, around, blocks_NS)
    key = json.dumps([inputs["figures"], measure.identity()])
    kept = BuildDir(library.root.parent).figures(hashlib.sha256(key.encode()).hexdigest()[:24])
    # Pairwise terms need final hidden states, and a fit needs KLs by position. Other scores do not store these, so such scores
    # have a separate cache, in which every entry implies that its states or KLs are stored.
    more = method.pairwise or method.children > 0
    also = "-states" * method.pairwise + "-kls" * (method.children > 0)
    partial = Partial(work / f"figures{also}.jsonl" if more else kept, key)
    rows = _rows(work, measure, method, runner, len(todo))
    incumbent = Incumbent(model, library)
    behind = text_behind(program, method, bld, measure.samples(), runner, parent_dir, base, library)
    progress.start(f"score {score}", len(todo) + len(runs))
    with torch.inference_mode():
        given = (runner, measure, method.metric, partial, progress, incumbent, rows, work, behind)
        sweep = Sweep(*given)
        if blocks_NS is not None:
            held_bytes = room_bytes() // points_at_a_time(runs)
            healing = HealingGroups(
                model, library.load, blocks_NS, measure.groups, work, held_bytes=held_bytes
            )
            sweep = HealedSweep(healing, *given)
        sweep.run(todo, around, runs)
        samples = measure.samples()
        table = score_table(score, method.metric, unit, samples, len(runner), partial.figures, layers, runs)
        if more:
            shape = program.parents[space.parent].shape
            children = Children(todo, shape, runner, measure, incumbent, partial, progress)
            form = children.form(method.children, bld.seed, sweep.parent_PH, rows)
            table = fitted_table(table, form, todo)
            _tell_fit(score, table, progress)
            partial.copy_to(kept)
    influence = block_influence(sweep.influence, _text_name(method, bld))
    return table.model_copy(update={"inputs": inputs, "influence": influence})


def score_children(
    program: nodes.Program,
    score: str,
    parent_dir: Path,
    base: Path,
    library: Library,
    children: Sequence[ModelDefinition],
    progress: Progress,
    *,
    unseen: bool = False,
) -> list[float]:
    """Return the losses of whole children, by a score's metric and on its text or items.

    `unseen`: measure on as much text after the score's. Raises DiagnosticError (NotEnoughText) if there is not enough. Has no
    effect on items.
    """
    declaration = program.scores[score]
    method = declaration.method
    if not isinstance(method, nodes.ReplaceOne) or declaration.bld is None:
        raise ValueError(f"score {score} is not measured, it is read from a table")
    bld = program.blds[declaration.bld]
    runner = LayerRunner(model := reachable_parent(parent_dir, progress, once=False))
    measure = measure_of(
        program, declaration, method, bld, runner, parent_dir, base, library, progress, unseen
    )
    incumbent = Incumbent(model, library)
    with torch.inference_mode():
        measure.set_parent(final_states(runner, measure))
        found = []
        for child in children:
            incumbent.become(child)
            found.append(measure.figures(final_states(runner, measure))[method.metric])
    return found


def _text_name(method: nodes.ReplaceOne, bld: nodes.Bld) -> str:
    """Return the name of the tasks or data that a score is measured on."""
    return method.tasks or method.data or bld.data or ""


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


def measure_of(
    program: nodes.Program,
    declaration: nodes.Score,
    method: nodes.ReplaceOne,
    bld: nodes.Bld,
    runner: LayerRunner,
    parent_dir: Path,
    base: Path,
    library: Library,
    progress: Progress,
    unseen: bool = False,
) -> Measure:
    """Return the measure of a score on its items or its text; `unseen`: on as much text after it.

    Raises DiagnosticError: no text, too little of it, items that cannot be read.
    """
    tokenizer = load_tokenizer(parent_dir)
    if method.metric == "accuracy":
        items = read_tasks(base / (method.tasks or ""), method.samples, span=span_of(declaration.where))
        encoded = [
            [encode_choice(tokenizer, item.context, choice) for choice in item.choices] for item in items
        ]
        return Accuracy(runner, items, encoded)
    data = method.data or bld.data
    if data is None:
        raise DiagnosticError(NoScoringText(span_of(declaration.where), score=declaration.name))
    behind = data == bld.data
    cache = BuildDir(library.root.parent).tokens
    tokens = scored_text(program.data[data], base, tokenizer, method, bld, behind, cache, progress, unseen)
    check_tokens(parent_dir, tokens)
    return Divergence(runner, tokens, method.samples, top_k=method.top_k)


def _healing_blocks(
    program: nodes.Program,
    declaration: nodes.Score,
    method: nodes.ReplaceOne,
    bld: nodes.Bld,
    parent_dir: Path,
    base: Path,
    library: Library,
) -> Tensor | None:
    """Return the text to heal on, [N, S]; None if the score does not heal."""
    if not method.healed:
        return None
    tokenizer, cache = load_tokenizer(parent_dir), BuildDir(library.root.parent).tokens
    blocks_NS = healing_blocks(program, declaration, method.healed, bld, base, tokenizer, cache)
    check_tokens(parent_dir, blocks_NS)
    return blocks_NS


def _inputs(
    parent_dir: Path,
    measure: Measure,
    method: nodes.ReplaceOne,
    library: Library,
    todo: Sequence[Replacement],
    around: ModelDefinition | None,
    healing_NS: Tensor | None,
) -> dict[str, str]:
    """Return digests, by name, of everything that a table depends on. `figures` is the one that keys the cache."""
    tokens = torch.cat([group.flatten() for group in measure.groups])
    pieces = {piece.job.id: piece.sha256 for piece in library.pieces()}
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
