"""Initial weights of a layer's pieces: Gauss-Newton on all linear maps, then the grids of storage types.

Gauss-Newton starts from the least-squares fit of the last map. It leaves out pieces from the paper's initialisers, and linear
sub-blocks, which are optimal already. Quantised weights are rounded with error compensation (GPTQ) or to the nearest value. Maps
that read the same input share its Gram matrix: that of a sub-block's own input comes from calibration; those of inputs further
inside are measured on the kept calibration batches (`LayerStatistics.calls`) in float32, whatever the parent's dtype.

Shapes: B sequences, S positions, H hidden; R outputs, C inputs of a linear map.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.alternatives.precision import PRECISIONS, Precision, is_quantised
from puzzledsl.models.families.access import last_map, norm_behind, part_of, sub_block_of
from puzzledsl.models.families.slots import Slot, slots
from puzzledsl.models.kernels.products import repeatable
from puzzledsl.models.least_squares.grams import Gram, LayerStatistics, LayerTrace, TracedBatch, refit
from puzzledsl.models.machine import Workers
from puzzledsl.models.precision.gptq import gptq, nearest
from puzzledsl.pieces.initialise.gauss_newton import Fit
from puzzledsl.pieces.train.student import Student, alternatives_of
from puzzledsl.plan.flop import FITTED_SHARE, has_numbers_enough, is_refined


def float_batch(call: TracedBatch) -> TracedBatch:
    """Return a call whose floating-point tensors are float32."""
    entering, trace = call
    return entering.float(), LayerTrace(**{f.name: _float(getattr(trace, f.name)) for f in fields(trace)})


def _float(value: Any) -> Any:
    match value:
        case Tensor() if value.is_floating_point():
            return value.float()
        case dict():
            return {name: _float(part) for name, part in value.items()}
        case tuple():
            return tuple(_float(part) for part in value)
        case _:
            return value


def refine(students: Sequence[Student], calls: Sequence[TracedBatch]) -> None:
    """Fit the pieces of one layer, in place, to the parent's outputs on FITTED_SHARE of the calibration batches.

    A fit is kept only if it also reduces the error on the last batch, which it is not fitted to. Skips pieces that are not to
    be refined, that have too many weights for the number of calibration values, or whose weights are not all float32.
    """
    batches = int(FITTED_SHARE * len(calls))
    numbers = sum(entering.numel() for entering, _ in calls[:batches])
    sizes = [sum(linear.weight.numel() for linear in _linears(student.trained)) for student in students]
    wanted = [
        student
        for student, size in zip(students, sizes, strict=True)
        if is_refined(student.job) and has_numbers_enough(size, numbers) and _is_float32(student)
    ]
    if not wanted:
        return
    fitted = [float_batch(call) for call in calls[:batches]]
    judging = [float_batch(calls[-1])]
    for student in wanted:
        if Fit(_linears(student.trained), partial(_residual, student), fitted, judging).run():
            _refit_last(student, calls)


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [inner for inner in module.modules() if isinstance(inner, nn.Linear)]


def _is_float32(student: Student) -> bool:
    """False if one half of a coupled piece is the parent's module in 16 bits; a fit would then follow its rounding errors."""
    layer, parts = student.layer, alternatives_of(student.job)
    modules = [sub_block_of(layer, sub_block) for sub_block in parts if part_of(layer, sub_block) is not None]
    return all(weight.dtype == torch.float32 for module in modules for weight in module.parameters())


def _residual(student: Student, batch: TracedBatch) -> Tensor:
    """Return the residual of the fit: what the piece adds to the stream minus what the parent's sub-block adds, [B, S, H]."""
    return student.forward(*batch) - student.target(batch[1])


@torch.no_grad()
def _refit_last(student: Student, calls: Sequence[TracedBatch]) -> None:
    """Refit the last linear map of a piece by least squares on all calibration tokens; `Fit` used only a part of them."""
    last = _last(student)
    if last is None:
        return
    bias = cast(Tensor | None, last.bias)  # torch's type stubs do not allow None
    gram = Gram.zeros(last.in_features, last.out_features, last.weight.device)
    noted: list[Tensor] = []
    hook = last.register_forward_hook(lambda module, args, output: noted.extend((args[0], output)))
    try:
        for hidden, trace in map(float_batch, calls):
            made = student.forward(hidden, trace)
            read, gave = noted
            noted.clear()
            wanted = student.target(trace) - made + gave
            gram.add(read, wanted if bias is None else wanted - bias)
    finally:
        hook.remove()
    last.weight.copy_(refit(gram, last.weight))


def _last(student: Student) -> nn.Linear | None:
    """Return a piece's last linear map, or None: it has none, or the output is not linear in it (parent's FFN or norm behind)."""
    job = student.job
    if job.ffn is not None and job.ffn.is_parent:
        return None
    sub_block: SubBlock
    if job.ffn is not None and not job.ffn.removes:
        sub_block, made = "ffn", cast(Alternative, job.ffn)
    elif job.attention is not None and not job.attention.is_parent:
        sub_block, made = "attention", job.attention
    else:
        return None
    if norm_behind(student.layer, sub_block) is not None:
        return None
    return last_map(sub_block_of(student.layer, sub_block), made)[1]


JUDGED = 1024
"""Tokens on which the outputs of two roundings are compared. A token has one error for each channel, so few tokens suffice."""
Method = Literal["gptq", "nearest"]


def quantise(students: Sequence[Student], statistics: LayerStatistics, method: Method) -> None:
    """Round a layer's sub-blocks with storage types, in place, and freeze them; on a CPU several at once if there are many."""
    todo = [
        (sub_block_of(student.layer, sub_block), alternative, sub_block)
        for student in students
        for sub_block, alternative in alternatives_of(student.job).items()
        if alternative.dtype is not None
    ]
    if not todo:
        return
    # an FFN takes twice as long as an attention: one thread would wait
    few = len(todo) < 2 * torch.get_num_threads()
    with Workers(statistics.attention.xx.device, most=1 if few else len(todo)) as workers:
        for (module, *_), _ in workers.each(lambda one: quantise_sub_block(*one, statistics, method), todo):
            module.requires_grad_(False)


@torch.no_grad()
def quantise_sub_block(
    module: nn.Module,
    alternative: Alternative,
    sub_block: SubBlock,
    statistics: LayerStatistics,
    method: Method,
) -> None:
    """Round a float32 module to the grid of `alternative.dtype`, in place. "gptq" gives way to "nearest" where that errs less."""
    assert alternative.dtype is not None
    precision = PRECISIONS[alternative.dtype]
    places = {n: slot for n, slot in slots(module).items() if is_quantised(n, tuple(slot.weight.shape))}
    calls = [float_batch(call) for call in statistics.calls] if method == "gptq" else []
    read = _Inputs(module, sub_block, calls, last_map(module, alternative)[1])
    own = statistics.attention if sub_block == "attention" else statistics.ffn
    original = {name: slot.weight.clone() for name, slot in places.items()}
    rounded: set[str] = set()
    for linears in read.groups():
        held = {n: slot for n, slot in places.items() if slot.holder in linears}
        inside = linears[0] not in read.own
        gram = read.gram(linears[0]) if inside and held else own
        wanted = [
            refit(gram, slot.weight)
            if inside and slot.share is None and gram.xy.shape[1] == len(slot.weight)
            else slot.weight
            for slot in held.values()
        ]
        if wanted:
            found = gptq(torch.cat(wanted), gram.xx, precision, gram.tokens)
            for slot, rows in zip(held.values(), torch.split(found, [*map(len, wanted)]), strict=True):
                slot.weight.copy_(rows)
        rounded |= set(held)
        if not inside:
            _keep_where_outputs_are_nearer(held, original, precision, read)
    for name in set(places) - rounded:
        places[name].weight.copy_(nearest(original[name], precision))
    if rounded:
        compensated, error = {name: places[name].weight.clone() for name in rounded}, read.error()
        for name in rounded:
            places[name].weight.copy_(nearest(original[name], precision))
        if error <= read.error():
            for name in rounded:
                places[name].weight.copy_(compensated[name])


def _keep_where_outputs_are_nearer(
    held: Mapping[str, Slot], original: Mapping[str, Tensor], precision: Precision, read: _Inputs
) -> None:
    """Round each map of `held` to the nearest values instead, where this brings the sub-block's outputs nearer to the parent's.

    It does in some attentions of SmolLM2: the softmax does not weigh errors of queries and keys by their squares, as GPTQ does.
    """
    error = read.error()
    for name, slot in held.items():
        compensated = slot.weight.clone()
        slot.weight.copy_(nearest(original[name], precision))
        if (other := read.error()) < error:
            error = other
        else:
            slot.weight.copy_(compensated)


class _Inputs:
    """Inputs of the linear maps inside a sub-block on calibration calls."""

    def __init__(
        self, module: nn.Module, sub_block: SubBlock, calls: Sequence[TracedBatch], last: nn.Module | None
    ) -> None:
        self._module, self._sub_block, self._calls = module, sub_block, calls
        self._last = last
        self.own: set[nn.Module] = set()
        """The maps that read the sub-block's input; known once `groups` has begun."""

    def groups(self) -> Iterator[list[nn.Module]]:
        """Yield lists of maps that read the same input, in the order in which they run; none without calls."""
        if not self._calls:
            return
        seen: dict[int, list[nn.Module]] = {}
        held: list[Tensor] = []  # so that no two inputs have one id

        def note(module: nn.Module, args: Any) -> None:
            held.append(args[0])
            seen.setdefault(args[0].data_ptr(), []).append(module)

        with _hooked(_linears(self._module), note):
            given = self._run(self._calls[0])
        self.own = set(seen.get(given.data_ptr(), []))
        yield from (list(dict.fromkeys(linears)) for linears in seen.values())

    def gram(self, linear: nn.Module) -> Gram:
        """Return the Gram matrix of a map's inputs on all calls, with the module's present weights.

        For the last map it has its targets, too: the parent's outputs less the map's bias.
        """
        wanted = cast(nn.Linear, linear)
        is_last, bias = (
            wanted is self._last,
            cast(Tensor | None, wanted.bias),
        )  # torch's type stubs allow no None
        outputs = wanted.out_features if is_last else 0
        gram = Gram.zeros(wanted.in_features, outputs, wanted.weight.device)
        read: list[Tensor] = []
        with _hooked([wanted], lambda module, args: read.append(args[0])):
            for call in self._calls:
                self._run(call)
                target = self._wanted(call) if is_last else None
                gram.add(read.pop(), target if target is None or bias is None else target - bias)
        return gram

    def error(self) -> float:
        """Return the squared distance of the sub-block's outputs from the parent's, on the last calls with JUDGED tokens."""
        found, tokens = 0.0, 0
        for call in reversed(self._calls):
            if tokens >= JUDGED:
                break
            output = self._outputs(call)
            found += float((output - self._wanted(call)).square().sum(dtype=torch.float64))
            tokens += output.shape[:-1].numel()
        return found

    def _wanted(self, call: TracedBatch) -> Tensor:
        _, trace = call
        return trace.attention_output if self._sub_block == "attention" else trace.ffn_output

    def _run(self, call: TracedBatch) -> Tensor:
        """Run the sub-block on a call's inputs, which are returned."""
        self._outputs(call)
        return call[1].attention_input if self._sub_block == "attention" else call[1].ffn_input

    def _outputs(self, call: TracedBatch) -> Tensor:
        _, trace = call
        with repeatable(trace.ffn_input.device):
            if self._sub_block == "attention":
                output = self._module(hidden_states=trace.attention_input, **trace.attention_kwargs)
            else:
                output = self._module(trace.ffn_input)
        return cast(Tensor, output[0] if isinstance(output, tuple) else output)


@contextmanager
def _hooked(linears: Sequence[nn.Module], note: Any) -> Iterator[None]:
    """Inside the context, `note` gets the arguments of each call of these maps."""
    hooks = [linear.register_forward_pre_hook(note) for linear in linears]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
