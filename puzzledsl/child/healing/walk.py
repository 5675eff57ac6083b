"""Heal a child: bring groups of tokens through its sub-blocks, and fit the last map of each to what it reads there.

A whole child is healed in one walk up its layers, with one of its sub-blocks in memory at a time. The parent's stream runs ahead
to the goal of the current sub-block. The child's copy of a sub-block exists only while the streams pass it; its healed weights
are written to `work`, one file per layer. An interrupted walk starts again at the bottom and reads finished layers from there, so
it repeats only forward passes.

Callers guarantee that the definition's pieces are in the library and that `jobs` contains the jobs that made them. Scores are
never measured on the text that healing fits to. All are blocks of the same shuffled order that BLD and scoring read
(`data.counts`):

    | BLD calibration | BLD training | BLD held out | scored | as many that none reads   | free … |
      healing           healing        judges                                               healing

A separate text for healing (`heal_data`) has no BLD parts: scored blocks come first, then judging blocks, then calibration.

Shapes: N blocks, S context, B sequences, H hidden, P positions.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.base.files import is_sealed_beside, seal_beside, write_bytes, write_text
from puzzledsl.base.progress import Progress
from puzzledsl.child.checkpoint.contents import Pieces
from puzzledsl.child.healing.fit import HELD_BYTES, FitBatch, ParentStream, Streams, fit_last
from puzzledsl.child.healing.layer import ChildSubBlock, Link, chain, first_changed, points
from puzzledsl.cluster.tasks import Task, TeamSpec
from puzzledsl.data.counts import Budget
from puzzledsl.data.streams import SILENT, token_rows
from puzzledsl.ir.nodes import Bld, Program, ReplaceOne
from puzzledsl.ir.references import refined_text
from puzzledsl.ir.tables import BldJob, LayerDefinition, ModelDefinition
from puzzledsl.models.divergence import summed_kl
from puzzledsl.models.families.access import absent, family_of, layers, part, shape_of
from puzzledsl.models.families.tensors import LazyTensor, open_file
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.machine import room_bytes
from puzzledsl.models.placement import reachable_parent
from puzzledsl.pieces.store.library import StageInputs
from puzzledsl.plan.flop import JUDGING_TOKENS, HealingWork
from puzzledsl.plan.memory.stage_plan import tiles

JUDGING_PART = 8
"""1 / JUDGING_PART of the calibration blocks of a score judge the steps and are not fitted to."""
Points = Mapping[int, Streams]
"""The parent's streams by number of their point (see `child.healing.layer`)."""


class HealingGroups:
    """Token groups to fit to, to judge steps by and to measure on, with the parent's stream of each; heals sub-blocks on them."""

    def __init__(
        self,
        model: PreTrainedModel,
        pieces: Pieces,
        fitted: Sequence[Tensor],
        judging: Sequence[Tensor],
        measured: Sequence[Tensor],
        folder: Path,
        *,
        held_bytes: int = HELD_BYTES,
        read_bytes: int = HELD_BYTES,
    ) -> None:
        """Embed the tokens of all groups, [B, S] each.

        A stream of the parent above `held_bytes` is kept in a file in `folder`. What a last map reads is computed again each time
        it is needed if it takes more than `read_bytes`.
        """
        self.runner, self._model, self._pieces = LayerRunner(model), model, pieces
        self._read_bytes = read_bytes
        self._fitted = range(len(fitted))
        self._judging = range(len(fitted), len(fitted) + len(judging))
        groups = [*fitted, *judging, *measured]
        self._positions = sum(tokens.numel() for tokens in groups)
        self.parent = ParentStream(self.runner, groups, folder, held_bytes=held_bytes)

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        pieces: Pieces,
        calibration_NS: Tensor,
        measured: Sequence[Tensor],
        folder: Path,
        *,
        held_bytes: int = HELD_BYTES,
    ) -> Self:
        """Make the groups of at least two calibration blocks, of which the first eighth (one at least) judges."""
        judging = max(1, len(calibration_NS) // JUDGING_PART)
        size = max(1, tiles(model.device.type).group_tokens // calibration_NS.shape[1])
        fitted, judges = (torch.split(b, size) for b in (calibration_NS[judging:], calibration_NS[:judging]))
        return cls(model, pieces, fitted, judges, measured, folder, held_bytes=held_bytes)

    def measured(self, stream: Sequence[Tensor]) -> list[Tensor]:
        """Return the part of a stream that belongs to the measured groups."""
        return list(stream[self._judging.stop :])

    def sub_block(self, link: Link) -> ChildSubBlock:
        """Return a sub-block of a child. Raises DiagnosticError if its piece is missing, is damaged or does not fit."""
        return ChildSubBlock(self._model, link, self._pieces)

    def past(
        self, sub_block: ChildSubBlock, stream: Streams | Sequence[Tensor], points: Points, *, fit: bool
    ) -> Iterator[Tensor]:
        """Yield a child's stream after one more sub-block, group by group. The last map is fitted first if `fit`.

        Threads may call this concurrently: the parent's modules and streams are only read.
        """
        known, parent, goal = dict[int, Tensor](), points[sub_block.link.point], points[sub_block.link.goal]

        def read(index: int) -> Tensor:
            found = known[index] if index in known else self._read(sub_block, stream[index])
            if self._positions * found.shape[-1] * found.itemsize <= self._read_bytes:
                known[index] = found
            return found

        def seen(groups: range) -> Iterator[FitBatch]:
            return (FitBatch(read(i), stream[i], parent[i], goal[i]) for i in groups)

        if fit and sub_block.last is not None:
            fit_last(sub_block, seen(self._fitted), seen(self._judging))
        for index, hidden in enumerate(stream):
            yield hidden + sub_block.added(read(index))

    def _read(self, sub_block: ChildSubBlock, hidden_BSH: Tensor) -> Tensor:
        kwargs = self.parent.attention_kwargs(sub_block.link.layer_idx, hidden_BSH)
        return sub_block.last_input(hidden_BSH, kwargs)


@dataclass(frozen=True)
class Healed:
    """Layers of a child with healed weights in files, and KL(parent || child) on held-out tokens before and after, in nats."""

    layers: tuple[int, ...]
    kl_before: float
    kl_after: float
    calibration_tokens: int
    held_out_tokens: int

    @property
    def improved(self) -> bool:
        """True if healing lowers the KL divergence."""
        return self.kl_after < self.kl_before

    def weights(self, work: Path) -> dict[str, LazyTensor]:
        """Return the healed weights in a folder, by transformers' names."""
        files = (open_file(healed_layer(work, layer_idx)) for layer_idx in self.layers)
        return {name: weight for file in files for name, weight in file.items()}


@torch.no_grad()
def heal(
    model: PreTrainedModel,
    layers: Sequence[LayerDefinition],
    pieces: Pieces,
    calibration_NS: Tensor,
    held_out_NS: Tensor,
    work: Path,
    progress: Progress,
    *,
    held_bytes: int = HELD_BYTES,
) -> Healed:
    """Heal the child that `layers` and `pieces` define. `model`, the parent, is not changed.

    Refits the last map of every sub-block from the first changed one on (`first_changed`).
    Hidden states above `held_bytes` are kept in files in `work`.
    Raises DiagnosticError if a piece is damaged or does not fit.
    """
    without = absent(model)
    links, of_parent = chain(layers, without), points(len(layers), without)
    walk = _Walk(model, pieces, calibration_NS, held_out_NS, work, held_bytes)
    progress.start("heal", len(layers) + 1)
    changed = first_changed(links, of_parent)
    entered = of_parent[changed]
    walk.parent.drop_below(2 * (entered // 2))
    todo = {idx: list(group) for idx, group in groupby(links[changed:], key=lambda link: link.layer_idx)}
    work_of = HealingWork(shape_of(model.config), calibration_NS.numel(), held_out_NS.numel())
    efforts = _efforts(work_of, todo, entered // 2, work)
    progress.ready(sum(efforts.values()) + work_of.compared)
    walk.enter(entered)
    done = 0
    for layer_idx, of_layer in todo.items():
        progress.advance(layer_idx - done, kept=True, work=0.0)  # there is nothing to heal
        walk.heal(layer_idx, of_layer)
        progress.advance(work=efforts[layer_idx])
        done = layer_idx + 1
    progress.advance(len(layers) - done, kept=True, work=0.0)
    divergences = walk.divergences(2 * len(layers))
    progress.advance(work=work_of.compared)
    return Healed(tuple(todo), *divergences, calibration_NS.numel(), held_out_NS.numel())


def _efforts(
    work: HealingWork, todo: Mapping[int, Sequence[Link]], ran: int, folder: Path
) -> dict[int, float]:
    """Return the work of each layer of the child, with that of the parent's layers that run meanwhile.

    `ran`: number of the parent's layers that have run already. Layers with healed weights in `folder` are not fitted again.
    """
    efforts = {}
    for layer_idx, links in todo.items():
        reached = (links[-1].goal + 1) // 2
        efforts[layer_idx] = work.parent(range(ran, reached))
        efforts[layer_idx] += sum(work.run(layer_idx, link.alternative) for link in links)
        if not is_sealed_beside(healed_layer(folder, layer_idx)):
            efforts[layer_idx] += sum(work.fit(layer_idx, link.alternative) for link in links)
        ran = reached
    return efforts


def healed_layer(work: Path, layer_idx: int) -> Path:
    """Return the path of a layer's healed weights."""
    return work / f"layer-{layer_idx}.safetensors"


class _Walk(HealingGroups):
    """Healing of one child: its streams on calibration and held-out tokens, and on the latter those of the child unhealed."""

    def __init__(
        self,
        model: PreTrainedModel,
        pieces: Pieces,
        calibration_NS: Tensor,
        held_out_NS: Tensor,
        work: Path,
        held_bytes: int,
    ) -> None:
        at_once, texts = tiles(model.device.type).forward_tokens, (calibration_NS, held_out_NS)
        fitted, judging = (torch.split(text, max(1, at_once // text.shape[1])) for text in texts)
        super().__init__(
            model, pieces, fitted, judging, (), work, held_bytes=held_bytes, read_bytes=held_bytes
        )
        self._work, self._child = work, self.parent.new()
        self._unhealed: list[Tensor] = []

    def enter(self, point: int) -> None:
        """Start all streams at a point up to which child and parent are equal."""
        self.parent.drop_below(point)
        for index, hidden in enumerate(self.parent.at(point)):
            self._child[index] = hidden
        self._unhealed = [self._child[index] for index in self._judging]

    def heal(self, layer_idx: int, links: Sequence[Link]) -> None:
        """Heal the sub-blocks of a layer and write their weights, or read these if they are written; move the streams past it."""
        path = healed_layer(self._work, layer_idx)
        stored = open_file(path) if is_sealed_beside(path) else None
        weights: dict[str, Tensor] = {}
        for link in links:
            weights |= self._past(self.sub_block(link), stored)
        if stored is None:
            write_bytes(path, to_safetensors(weights))
            seal_beside(path)

    def _past(self, sub_block: ChildSubBlock, stored: Mapping[str, LazyTensor] | None) -> dict[str, Tensor]:
        """Heal a sub-block, or load its healed weights from `stored`; move the streams past it; return its healed weights."""
        link = sub_block.link
        points = {point: self.parent.at(point) for point in (link.point, link.goal)}
        self._unhealed = [h + sub_block.added(self._read(sub_block, h)) for h in self._unhealed]
        if stored is not None:
            names = sub_block.fitted()
            sub_block.load_fitted({name: stored[self._name(link, name)].read() for name in names})
        for index, hidden in enumerate(self.past(sub_block, self._child, points, fit=stored is None)):
            self._child[index] = hidden
        self.parent.drop_below(link.goal)
        return {self._name(link, name): w.contiguous() for name, w in sub_block.fitted().items()}

    def _name(self, link: Link, weight: str) -> str:
        """Return the name of a sub-block's weight in the checkpoint."""
        module = part(layers(self._model)[link.layer_idx], link.sub_block).module
        return f"{family_of(self._model).layers}.{link.layer_idx}.{module}.{weight}"

    def divergences(self, end: int) -> tuple[float, float]:
        """Return KL(parent || child) of the child before and after healing, in nats, means over held-out positions."""
        stream = self.parent.at(end)
        parent, child = ([of[index] for index in self._judging] for of in (stream, self._child))
        before = sum(self._kl(p, c) for p, c in zip(parent, self._unhealed, strict=True))
        after = sum(self._kl(p, c) for p, c in zip(parent, child, strict=True))
        positions = sum(hidden.shape[:2].numel() for hidden in parent)
        return before / positions, after / positions

    def _kl(self, parent_BSH: Tensor, child_BSH: Tensor) -> float:
        return summed_kl(parent_BSH.flatten(0, 1), child_BSH.flatten(0, 1), self._logits, self._logits)

    def _logits(self, hidden_PH: Tensor) -> Tensor:
        return self.runner.logits(self.runner.final_norm(hidden_PH))


def healing_text(
    program: Program, bld: Bld, base: Path, tokenizer: Any, cache: Path, progress: Progress = SILENT
) -> tuple[Tensor, Tensor] | None:
    """Return calibration and held-out blocks, [N, S] each, for healing children made of a BLD's pieces.

    The calibration blocks have `heal` tokens, or fewer if the text is short. None if the text has no blocks for one of the two,
    or the declaration asks for no healing. Raises DiagnosticError: missing or unreadable files.
    """
    name = bld.heal_data or bld.data
    wanted = -(-bld.heal_tokens // bld.context)
    if name is None or not wanted:
        return None
    own = name != bld.data
    scored = _scored_blocks(program, name, bld.context)
    calibration, judging, behind = _parts(bld, scored, own)
    tokens = (behind + wanted) * bld.context
    blocks_NS = token_rows(
        *(program.data[name], base, tokenizer),
        context=bld.context,
        tokens=tokens,
        seed=bld.seed,
        cache=cache,
        progress=progress,
        or_fewer=True,
    )[:]
    healing_NS = torch.cat([blocks_NS[:calibration], blocks_NS[behind:]])[:wanted]
    held_out_NS = blocks_NS[judging]
    return (healing_NS, held_out_NS) if len(healing_NS) and len(held_out_NS) else None


def blocks_read(program: Program, data: str, context: int, seed: int) -> int:
    """Return how many blocks at the start of a text BLD, scores and healing read, in the order of `context` and `seed`."""
    found = [0]
    for bld in program.blds.values():
        if (bld.context, bld.seed) != (context, seed):  # another order
            continue
        scored, wanted = _scored_blocks(program, data, context), -(-bld.heal_tokens // context)
        if data == bld.data:
            found.append(Budget.of(bld).blocks + scored)
        if wanted and data == (bld.heal_data or bld.data):
            front, _, behind = _parts(bld, scored, data != bld.data)
            found.append(behind + max(0, wanted - front))
    return max(found)


def _parts(bld: Bld, scored: int, own: bool) -> tuple[int, slice, int]:
    """Return (number of first blocks to heal on, slice that judges, first free block). `own`: the text is not the BLD's."""
    budget = Budget.of(bld)
    count = max(1, JUDGING_TOKENS // bld.context)
    if own:
        return 0, slice(scored, scored + count), scored + count
    front = budget.calibration + budget.training
    return front, slice(front, front + min(count, budget.held_out)), budget.blocks + scored


def _scored_blocks(program: Program, data: str, context: int) -> int:
    """Return twice the most blocks of this text that a score or refinement reads: no child is healed on what may judge it."""
    samples = [
        score.method.samples
        for score in program.scores.values()
        if isinstance(score.method, ReplaceOne)
        and data == (score.method.data or (program.blds[score.bld].data if score.bld else None))
    ]
    samples += [
        search.refine.samples
        for search in program.searches.values()
        if search.refine is not None and refined_text(program, search) == data
    ]
    return 2 * -(-max(samples, default=0) // context)


STREAMS_AT_A_TIME = 16
"""Upper bound n on the number of streams alive at once. A stream above 1 / n of the free memory is kept in a file."""


OUTCOME = "healed.json"
"""File in `HealingInputs.work` with the outcome of healing a whole child: a `Healed` as JSON."""


@dataclass(frozen=True)
class HealingInputs(StageInputs):
    """Inputs of healing the child that `definition` describes; `name` is that of its search.

    Layers that an interrupted run of the same child, or a lost worker, left in `work` are reused; so is all of a finished one.
    """

    definition: ModelDefinition = field(kw_only=True)

    def heal(self, bld: Bld) -> Healed | None:
        """Heal the child, here or on a worker; None if there is no text to heal on. Raises DiagnosticError."""
        given = (self.base, self.tokenizer, self.build.tokens, self.progress)
        text = healing_text(self.program, bld, *given)
        if text is None:
            return None
        model = reachable_parent(self.parent_dir, self.progress, once=True)
        held_bytes = min(HELD_BYTES, room_bytes() // STREAMS_AT_A_TIME)
        child = self.definition.layers, self.library.load
        return heal(model, *child, *text, self.work, self.progress, held_bytes=held_bytes)


def healed_weights(inputs: HealingInputs) -> dict[str, LazyTensor]:
    """Heal a child and return the weights that replace the assembled ones, by transformers' names.

    Empty if there is nothing to heal, no text to heal on, or healing does not lower the KL divergence on held-out tokens. The
    result reads files in `work`; the caller removes it afterwards. Raises DiagnosticError.
    """
    program, definition = inputs.program, inputs.definition
    declaration = _bld_of(program, definition, inputs.jobs)
    if declaration is None or all(a.attention.is_parent and a.ffn.is_parent for a in definition.layers):
        return {}
    outcome: Healed | None
    if (file := inputs.work / OUTCOME).exists():
        known = json.loads(file.read_text("utf-8"))
        outcome = Healed(**{**known, "layers": tuple(known["layers"])})
    else:
        outcome = _healed(inputs, declaration)
    return {} if outcome is None or not outcome.improved else outcome.weights(inputs.work)


def _healed(inputs: HealingInputs, declaration: Bld) -> Healed | None:
    """Heal the child, and keep the outcome beside its layers; None if there is no text to heal on."""
    search, there = inputs.name, inputs.sent(jobs=())
    outcome: Healed | None
    with inputs.executor.open(TeamSpec(lambda member: there), inputs.progress) as teams:
        ((_, outcome),) = teams.run([Task.call(search, "heal", declaration)])
    if outcome is not None:
        write_text(inputs.work / OUTCOME, json.dumps(asdict(outcome)))
        inputs.progress.log(
            "healed",
            search=search,
            kept="healed" if outcome.improved else "assembled",
            kl_assembled=outcome.kl_before,
            kl_healed=outcome.kl_after,
            calibration_tokens=outcome.calibration_tokens,
            held_out_tokens=outcome.held_out_tokens,
            data=declaration.heal_data or declaration.data,
        )
    return outcome


def _bld_of(program: Program, definition: ModelDefinition, jobs: Iterable[BldJob]) -> Bld | None:
    """Return the `bld` declaration of the child's first piece; of any job if the child has no piece; None without jobs."""
    made_by = {job.id: job.bld for job in jobs}
    for layer in definition.layers:
        for piece in (layer.block_piece, layer.attention_piece, layer.ffn_piece):
            if piece is not None:
                return program.blds[made_by[piece]]
    return next((program.blds[name] for name in made_by.values()), None)
