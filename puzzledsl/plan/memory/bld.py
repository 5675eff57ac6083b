"""Memory of blockwise local distillation (Puzzle, section 3), with the calibration before it, and of activations in every stage.

Attention is counted as fused kernels compute it: without a matrix of scores, and with the keys' and values' heads not repeated.
Each count is that of the step that needs most; a test compares them with what a pretended GPU sees. K: numbers of keys, and of
values; Q: of queries; W: channels of an FFN that a token goes through; H: of the hidden state.

A piece's optimiser holds, a weight, the float32 weight and AdamW's two moments. Gradients of one layer's pieces exist at a time.
The best and the initial weights lie in the host's memory. A piece that is optimal as it starts holds its weights only.

A worker (one device) holds consecutive layers of the parent and the pieces of some of them. While a layer's pieces are
initialised, it holds its Gram matrices and its traces on all calibration tokens; while pieces are trained, their optimiser and
the activations of one micro-batch. Pieces that do not fit together are trained in passes over the text, each with the pieces of
consecutive layers; a pass runs the parent up to its last layer.

The time of a plan is that of the parent, of pieces, of Gram matrices and of least squares (`plan.flop`), and of the optimiser at
the memory's bandwidth.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import assert_never

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.families.registry import FAMILIES
from puzzledsl.ir.facts import total_params
from puzzledsl.ir.nodes import Shape
from puzzledsl.ir.tables import BldJob
from puzzledsl.plan import flop
from puzzledsl.plan.bld import Kind, spans, work_of
from puzzledsl.plan.memory.stage_plan import (
    FLOAT32_BYTES,
    FLOAT64_BYTES,
    PARENT_SHARE,
    Choice,
    Device,
    StagePlan,
    size_text,
)

TRACED = 7
"""Hidden states that a layer's trace holds: what enters, input and output of both sub-blocks, the stream between, what leaves."""
BEFORE_ATTENTION, BEFORE_FFN = 2, 5
"""Hidden states of the trace that exist while attention runs and while the FFN runs, what enters the layer among them."""

NORM_BYTES = 10
"""Bytes that a norm keeps for its backward pass, for each number: its input and its product in float32, its output in 16 bits."""


def forward_numbers(alternative: Alternative, own: Shape) -> int:
    """Return the numbers a token that a sub-block holds at the peak of a forward pass, without its input."""
    if alternative.sub_block == "ffn":
        return 3 * alternative.alone(own).ffn_width + 2 * _chosen(alternative, own) * own.hidden
    if heads := alternative.alone(own).query_heads:
        queries, keys = _attention_numbers(alternative, own, heads)
        gate = queries if own.output_gate else 0
        # rotary embedding of the queries, beside keys and values; or that of the keys
        return gate + max(4 * queries + 2 * keys, 2 * queries + 5 * keys)
    return _mixer_forward(own) if alternative.kind == "parent" else own.hidden


def training_numbers(alternative: Alternative, own: Shape) -> tuple[int, int]:
    """Return the numbers a token of a sub-block in training, without its output: kept for its backward pass, and its peak."""
    if heads := alternative.alone(own).query_heads:
        queries, keys = _attention_numbers(alternative, own, heads)
        return 2 * queries + 2 * keys, 4 * queries + 4 * keys
    width = alternative.alone(own).ffn_width if alternative.sub_block == "ffn" else 0
    routed = 2 * _chosen(alternative, own) * own.hidden
    return 4 * width + routed, 6 * width + 2 * routed


def layer_forward_numbers(own: Shape) -> int:
    """Return the numbers a token at the peak of a traced forward pass of the parent's layer."""
    attention, ffn = (forward_numbers(half, own) for half in (ParentAttention(), ParentFfn()))
    halves = BEFORE_ATTENTION * own.hidden + attention, BEFORE_FFN * own.hidden + ffn
    return max(*halves, TRACED * own.hidden)


def widest_forward(shape: Shape) -> int:
    """Return the numbers a token at the peak of a traced forward pass of the parent's widest layer."""
    return max(map(layer_forward_numbers, shape.each))


def _attention_numbers(alternative: Alternative, own: Shape, heads: int) -> tuple[int, int]:
    return heads * own.head_dim, alternative.alone(own).cached_heads * own.head_dim


def _mixer_forward(own: Shape) -> int:
    """Return the numbers a token of a mixer that keeps a state: projections, the convolution, and the chunked scan."""
    match own.mixer:
        case "mamba2" | "delta_net":
            assert own.state is not None
            inner = own.state.heads * own.state.head_dim
            return 8 * inner + 4 * own.state.groups * own.state.state
        case "attention" | "linear" | "none":
            return own.hidden
        case _:
            assert_never(own.mixer)


def _chosen(alternative: Alternative, own: Shape) -> int:
    """Return the experts of one token; 0 without a mixture."""
    experts, top_k = alternative.alone(own).routing
    return 0 if experts == 1 else top_k


WEIGHT, MOMENTS, GRADIENT, KEPT = 4, 8, 4, 8
"""Bytes a weight in training, float32: the weight, its moments, its gradient; and the initial and the best value on the host."""


def weights_of(job: BldJob) -> int:
    """Return the number of a piece's weights."""
    return sum(math.prod(shape) for shape in job.shapes.values())


def is_trained(job: BldJob, shape: Shape) -> bool:
    """Return False for a piece that is optimal as it starts, that is frozen, or whose BLD trains nothing."""
    alternative: Alternative | None = job.attention or job.ffn
    assert alternative is not None
    if all(flop.is_frozen(part) for part in (job.attention, job.ffn) if part is not None):
        return False
    if not job.tokens or job.sub_block == "block":
        return bool(job.tokens)
    return has_norm_behind(shape.at(job.layer), job.sub_block) or alternative.solved_by != job.init


def has_norm_behind(own: Shape, sub_block: Kind) -> bool:
    """Return True if a piece's output goes through a norm of the parent's, in a layer of this shape."""
    if sub_block == "block":
        return False
    part = FAMILIES[own.family].names(own).of(sub_block)
    return part is not None and part.behind is not None


GRAMS_AT_ONCE = 4
"""Square matrices of the widest FFN while it is fitted, float64: as summed, damped, its factor, and its inverse."""
TRACES_IN_FLOAT, RESIDUALS = 9, 9
"""Hidden states a token of refinement, float32: of the trace, and residuals of the points remembered with their differences."""
OUTPUT_BYTES = 3 * FLOAT32_BYTES
"""Bytes of the loss for each number of the output: output, target and their difference in float32."""
MICRO_TOKENS = 1 << 15
"""Tokens at which a GPU reaches its full speed; larger micro-batches only take more memory."""
CAST_BYTES = 2
"""Bytes of a weight in bfloat16, in which a GPU multiplies it."""


@dataclass(frozen=True)
class WorkerPlan:
    """Bytes of one worker: layers `first` to `end - 1` of the parent, and `jobs` of these layers in one pass.

    `whole`: the whole parent is loaded, whatever layers run.
    """

    shape: Shape
    jobs: Sequence[BldJob]
    first: int
    end: int
    device: Device
    whole: bool = False

    @cached_property
    def parent_bytes(self) -> int:
        """Bytes of the worker's layers of the parent, and of the embedding on the first worker."""
        if self.whole:
            return total_params(self.shape) * self.device.number_bytes
        layers = self.shape.each[self.first : self.end]
        weights = sum(part.params(own) for own in layers for part in (ParentAttention(), ParentFfn()))
        embedding = self.shape.vocab * self.shape.hidden if self.first == 0 else 0
        return (weights + embedding) * self.device.number_bytes

    def training(self, blocks: int) -> Mapping[str, int]:
        """Bytes by part while `blocks` sequences at a time are trained on."""
        batch = self.jobs[0].batch
        state = MOMENTS + (0 if self.device.is_gpu else KEPT)  # the host holds what is kept, too
        trained = [job for job in self.jobs if is_trained(job, self.shape)]
        of_layers = [sum(weights_of(job) for job in trained if job.layer == i) for i in self._layers(trained)]
        of_pieces = [weights_of(job) for job in trained]
        # the whole batch trains one piece after the other; micro-batches add to the gradients of all pieces of a layer
        gradients = of_pieces if blocks >= batch else of_layers
        casts = CAST_BYTES * max(of_pieces, default=0) if self.device.is_gpu else 0
        ahead = self.shape.hidden * self.device.number_bytes * self.jobs[0].context if blocks < batch else 0
        return {
            "parent": self.parent_bytes,
            "weights and moments": WEIGHT * sum(map(weights_of, self.jobs)) + state * sum(of_pieces),
            "gradients": GRADIENT * max(gradients, default=0) + casts,
            "activations": blocks * (self.block_bytes + ahead),  # the next micro-batch is on its way
        }

    @cached_property
    def block_bytes(self) -> int:
        """Bytes of the activations of one sequence in the layer that needs most."""
        return self.jobs[0].context * max(map(self._token_bytes, self._layers(self.jobs)))

    def _token_bytes(self, layer: int) -> int:
        """Bytes a token of a layer: its trace, and the piece that needs most beside it; or its forward pass before."""
        own, number = self.shape.at(layer), self.device.number_bytes
        compute = CAST_BYTES if self.device.is_gpu else number
        jobs = (job for job in self.jobs if job.layer == layer and is_trained(job, self.shape))
        pieces = [_piece_bytes(job, own, compute) for job in jobs]
        trained = TRACED * own.hidden * number + max(pieces, default=0)
        return max(trained, layer_forward_numbers(own) * number)

    @cached_property
    def calibration(self) -> Mapping[str, int]:
        """Bytes by part while the last of the layers is initialised, when the pieces of all are in memory."""
        number, hidden, tokens = self.device.number_bytes, self.shape.hidden, self.jobs[0].calibration_tokens
        width = max(flop.widest(self.shape.at(layer)) for layer in self._layers(self.jobs))
        grams = GRAMS_AT_ONCE * max(width, hidden) ** 2 + 4 * hidden**2
        fit = 0
        if any(flop.refinement_tokens(job, hidden) != (0, 0) for job in self.jobs):
            fitted = int(flop.FITTED_SHARE * tokens)
            most = min(flop.CALIBRATION_BATCH_TOKENS, tokens // flop.CALIBRATION_BATCHES)
            batch = max(self.jobs[0].context, most)
            fit = ((fitted + batch) * TRACES_IN_FLOAT + fitted * RESIDUALS) * hidden * FLOAT32_BYTES
        copies = 1 if self.device.is_gpu else 2
        return {
            "parent": self.parent_bytes,
            "weights": copies * WEIGHT * sum(map(weights_of, self.jobs)),
            "Gram matrices": grams * FLOAT64_BYTES,
            "calibration tokens": tokens * hidden * TRACED * number,
            "refinement": fit,
        }

    @property
    def least_bytes(self) -> int:
        """Bytes at the peak with the smallest micro-batch: one sequence on a GPU, the whole batch on a CPU."""
        blocks = 1 if self.device.is_gpu else self.jobs[0].batch
        return max(sum(self.training(blocks).values()), sum(self.calibration.values()))

    @cached_property
    def micro_blocks(self) -> int:
        """Sequences that are trained on at a time. A CPU runs the whole batch: results must not depend on free memory."""
        batch, usable = self.jobs[0].batch, self.device.usable_bytes
        if not self.device.is_gpu or sum(self.training(batch).values()) <= usable:
            return batch
        left = usable - sum(self.training(0).values())
        a_block = self.training(1)["activations"]
        useful = max(1, MICRO_TOKENS // self.jobs[0].context)
        return max(1, min(batch - 1, useful, left // a_block))

    @property
    def host_bytes(self) -> int:
        """Bytes of the host: initial and best weights, a copy of the weights and moments for saving them, and a batch, twice."""
        batch = self.jobs[0].batch * self.jobs[0].context * self.shape.hidden * self.device.number_bytes
        kept = KEPT * sum(weights_of(job) for job in self.jobs if is_trained(job, self.shape))
        return kept + self.training(0)["weights and moments"] + 2 * batch

    @staticmethod
    def _layers(jobs: Sequence[BldJob]) -> list[int]:
        return sorted({job.layer for job in jobs})


def workers_of(shape: Shape, jobs: Sequence[BldJob], device: Device) -> list[WorkerPlan]:
    """Return the workers of one pass: spans of layers of about equal work, of which those without jobs only run the parent."""
    found = []
    for first, end in spans(work_of(jobs, shape), device.count):
        own = [job for job in jobs if first <= job.layer < end]
        found.append(WorkerPlan(shape, own, first, end, device, whole=device.count == 1))
    return found


def passes_of(shape: Shape, jobs: Sequence[BldJob], device: Device) -> list[list[BldJob]] | None:
    """Split jobs into passes over the text that fit the devices, each with the pieces of consecutive layers.

    A layer whose pieces do not fit together is in several passes. None if a single piece does not fit.
    """
    by_layer: dict[int, list[BldJob]] = {}
    for job in jobs:
        by_layer.setdefault(job.layer, []).append(job)
    groups = [by_layer[layer] for layer in sorted(by_layer)]
    return _packed(groups, lambda part: all(map(_fits, workers_of(shape, part, device))))


def sweeps_of(
    shape: Shape, jobs: Sequence[BldJob], device: Device, *, whole: bool = True
) -> list[list[BldJob]] | None:
    """Split jobs into sweeps up the layers, each with as many pieces of every layer as fit together.

    A sweep trains one layer at a time. None if a single piece does not fit. `whole`: the whole parent is loaded, not one layer.
    """
    sweeps: list[list[BldJob]] = []
    for layer in sorted({job.layer for job in jobs}):
        pieces = [[job] for job in jobs if job.layer == layer]
        parts = _packed(pieces, lambda part: _fits(_at_layer(shape, part, device, whole=whole)))
        if parts is None:
            return None
        sweeps += [[] for _ in range(len(parts) - len(sweeps))]
        for sweep, part in zip(sweeps, parts, strict=False):
            sweep.extend(part)
    return sweeps


def _packed(
    groups: Sequence[Sequence[BldJob]], fit: Callable[[Sequence[BldJob]], bool]
) -> list[list[BldJob]] | None:
    """Put as many groups together as fit, in their order, by bisection. A group that does not fit alone is split into its jobs.

    None if a single job does not fit.
    """
    found: list[list[BldJob]] = []
    while groups:
        low, high = 0, len(groups)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fit([*chain(*groups[:middle])]) else (low, middle - 1)
        if low:
            found.append([*chain(*groups[:low])])
        elif len(groups[0]) == 1 or (pieces := _packed([[job] for job in groups[0]], fit)) is None:
            return None
        else:
            found += pieces
        groups = groups[max(1, low) :]
    return found


def alone(shape: Shape, job: BldJob, device: Device) -> int:
    """Return the least bytes of a worker that trains one piece and holds only that piece's layer of the parent."""
    return _at_layer(shape, [job], device).least_bytes


def _fits(worker: WorkerPlan) -> bool:
    if worker.whole and worker.parent_bytes > PARENT_SHARE * worker.device.memory_bytes:
        return False  # it is read layer by layer, which streaming cannot do
    if not worker.jobs:
        return worker.parent_bytes <= worker.device.usable_bytes
    return worker.least_bytes <= worker.device.usable_bytes


def _piece_bytes(job: BldJob, own: Shape, number: int) -> int:
    """Return the bytes a token of a piece in training: when its loss is computed, or in its backward pass."""
    parts = [part for part in (job.attention, job.ffn) if part is not None]
    numbers = [training_numbers(part, own) for part in parts]
    kept, peaks = sum(kept for kept, _ in numbers), sum(peak for _, peak in numbers)
    heads = [(part, part.alone(own).query_heads) for part in parts if own.qk_norm]
    # queries and keys go through norms inside a sub-block
    normed = NORM_BYTES * sum(sum(_attention_numbers(part, own, count)) for part, count in heads if count)
    if has_norm_behind(own, job.sub_block):
        normed += NORM_BYTES * own.hidden
    loss = kept * number + own.hidden * (number + OUTPUT_BYTES)
    backward = peaks * number + own.hidden * (number + FLOAT32_BYTES)
    return normed + max(loss, backward)


OPTIMISER_BYTES = 28
"""Bytes a weight and step: read weight, gradient, two moments; write weight and moments; float32."""


def bld_stages(
    name: str, shape: Shape, jobs: Sequence[BldJob], device: Device, *, disk_bytes: int
) -> list[StagePlan]:
    """Return the plan, or none without jobs; it does not fit if a piece exceeds a device. `disk_bytes`: free for activations."""
    if not jobs:
        return []
    activations = 2 * jobs[0].tokens * shape.hidden * device.number_bytes  # all tokens' states at two layers
    keeps = device.count == 1 and activations <= disk_bytes
    parts = sweeps_of(shape, jobs, device) if keeps else passes_of(shape, jobs, device)
    if parts is None:
        return [_too_much(name, shape, jobs, device)]
    workers = [(_swept if keeps else workers_of)(shape, part, device) for part in parts]
    every = [worker for of_pass in workers for worker in of_pass if worker.jobs]
    blocks, devices = min(worker.micro_blocks for worker in every), max(map(len, workers))
    held = (bytes_of for worker in every for bytes_of in (worker.calibration, worker.training(blocks)))
    first = jobs[0]
    steps = max(1, first.tokens // (first.context * first.batch)) if first.tokens else 0
    work = (flop.work_by_layer(shape, part) for part in parts)
    seconds = sum(map(_busiest, work, workers)) / device.flop_per_s
    moved = steps * OPTIMISER_BYTES * sum(map(weights_of, jobs))
    seconds += moved / device.bandwidth_bytes_per_s / device.count
    kept = "kept on the disk" if keeps else "not kept: batches stream through all layers"
    disk = f"{size_text(activations)} of activations, {size_text(disk_bytes)} of disk"
    choices = [Choice("activations", kept, disk)]
    if device.count > 1:
        layers = max(worker.end - worker.first for worker in workers[-1])
        why = f"up to {layers} layers of about equal work"
        choices.append(Choice("workers", f"{devices} spans of layers", why))
    if blocks < first.batch:
        why = f"the whole batch takes {size_text(max(sum(w.training(first.batch).values()) for w in every))}"
        choices.append(Choice("micro-batch", f"{blocks} of {first.batch} sequences", why))
    if len(parts) > 1:
        busy = [worker for worker in workers_of(shape, jobs, device) if worker.jobs]
        why = f"all pieces together take {size_text(max(worker.least_bytes for worker in busy))}"
        named = f"{len(parts)} (layers {', '.join(f'{part[0].layer}-{part[-1].layer}' for part in parts)})"
        choices.append(Choice("sweeps" if keeps else "passes", named, why))
    most = max(sum(map(weights_of, part)) for part in parts)
    plan = StagePlan(
        stage="bld",
        name=name,
        devices=1 if keeps else devices,
        parts=max(held, key=lambda each: sum(each.values())),
        seconds=seconds,
        host_bytes=max(worker.host_bytes for worker in every) if device.is_gpu else 0,
        # two states, while one is written, with the best weights; and the initial weights
        scratch_bytes=activations if keeps else (2 * (WEIGHT + MOMENTS + KEPT // 2) + WEIGHT) * most,
        choices=tuple(choices),
    )
    return [plan]


def _busiest(work: Sequence[float], workers: Sequence[WorkerPlan]) -> float:
    """Return the work of a pass's busiest worker, from the `work` of each layer; with one device, the sum of all layers."""
    if workers[0].device.count == 1:
        return sum(work)
    return max(sum(work[worker.first : worker.end]) for worker in workers)


def _too_much(name: str, shape: Shape, jobs: Sequence[BldJob], device: Device) -> StagePlan:
    worker = max(
        (worker for job in jobs for worker in workers_of(shape, [job], device)),
        key=lambda worker: worker.least_bytes if worker.jobs else worker.parent_bytes,
    )
    parts = worker.training(1) if worker.jobs else {"parent": worker.parent_bytes}
    why = f"a worker needs {size_text(sum(parts.values()))} for one piece of one layer"
    choice = Choice("none", "does not fit", why)
    return StagePlan("bld", name, parts, 0.0, devices=device.count, choices=(choice,))


def _swept(shape: Shape, jobs: Sequence[BldJob], device: Device) -> list[WorkerPlan]:
    """Return the worker at each layer of a sweep, which holds the whole parent and the pieces of one layer."""
    layers = ([job for job in jobs if job.layer == i] for i in sorted({job.layer for job in jobs}))
    return [_at_layer(shape, part, device, whole=True) for part in layers]


def _at_layer(shape: Shape, jobs: Sequence[BldJob], device: Device, *, whole: bool = False) -> WorkerPlan:
    """Return a worker that holds pieces of one layer, and that layer of the parent or the `whole`."""
    return WorkerPlan(shape, jobs, jobs[0].layer, jobs[0].layer + 1, device, whole)
