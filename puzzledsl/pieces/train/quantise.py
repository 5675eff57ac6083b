"""Put the weights of quantised pieces on the grids of their storage types, with error compensation (GPTQ) or to the nearest.

Maps that read the same input share its Gram matrix. That of a sub-block's own input is the calibration's; those further inside
are measured on the kept calls with the maps before them quantised already, so that each map makes up for what goes wrong
before it. Experts of a mixture are rounded to the nearest, because a few tokens reach each of them. Quantised weights are
frozen.

Shapes: R outputs, C inputs of a linear map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from puzzledsl.alternatives.alternative import Alternative, SubBlock
from puzzledsl.alternatives.precision import PRECISIONS, is_quantised
from puzzledsl.models.families.access import sub_block_of
from puzzledsl.models.families.slots import Slot, slots
from puzzledsl.models.kernels.repeatable import repeatable
from puzzledsl.models.layer_trace import TracedBatch
from puzzledsl.models.least_squares.grams import Gram
from puzzledsl.models.least_squares.layer_statistics import LayerStatistics
from puzzledsl.models.precision.gptq import gptq
from puzzledsl.models.precision.grids import nearest
from puzzledsl.pieces.train.float_batches import float_batch
from puzzledsl.pieces.train.student import Student, alternatives_of

Method = Literal["gptq", "nearest"]


def quantise(students: Sequence[Student], statistics: LayerStatistics, method: Method) -> None:
    """Quantise the pieces of one layer whose alternatives have a storage type, in place, and freeze their weights."""
    for student in students:
        for sub_block, alternative in alternatives_of(student.job).items():
            if alternative.dtype is not None:
                module = sub_block_of(student.layer, sub_block)
                quantise_sub_block(module, alternative, sub_block, statistics, method)
                module.requires_grad_(False)


@torch.no_grad()
def quantise_sub_block(
    module: nn.Module,
    alternative: Alternative,
    sub_block: SubBlock,
    statistics: LayerStatistics,
    method: Method,
) -> None:
    """Put a sub-block's matrices on the grid of `alternative.dtype`, in place. `module` has float32 weights."""
    assert alternative.dtype is not None
    precision = PRECISIONS[alternative.dtype]
    places = {n: slot for n, slot in slots(module).items() if is_quantised(n, tuple(slot.weight.shape))}
    calls = [float_batch(call) for call in statistics.calls] if method == "gptq" else []
    read = _Inputs(module, sub_block, calls)
    own = statistics.attention if sub_block == "attention" else statistics.ffn
    for linears in read.groups():
        held = {n: slot for n, slot in places.items() if slot.holder in linears}
        xx_CC = own.xx if read.is_own_input(linears[0]) else read.gram(linears[0]).xx
        for name, slot in held.items():
            _put(slot, gptq(slot.weight, xx_CC, precision))
            del places[name]
    for slot in places.values():
        _put(slot, nearest(slot.weight, precision))


def _put(slot: Slot, weight_RC: Tensor) -> None:
    slot.weight.copy_(weight_RC)


class _Inputs:
    """Inputs of the linear maps inside a sub-block on calibration calls."""

    def __init__(self, module: nn.Module, sub_block: SubBlock, calls: Sequence[TracedBatch]) -> None:
        self._module, self._sub_block, self._calls = module, sub_block, calls
        self._own: set[nn.Module] = set()

    def groups(self) -> Iterator[list[nn.Module]]:
        """Yield the maps that read the same input, in the order in which they read."""
        if not self._calls:
            return
        seen: dict[int, list[nn.Module]] = {}
        held: list[Tensor] = []  # so that no two inputs have one id

        def note(module: nn.Module, args: Any) -> None:
            held.append(args[0])
            seen.setdefault(args[0].data_ptr(), []).append(module)

        with self._hooked(self._linears(), note):
            given = self._run(self._calls[0])
        self._own = set(seen.get(given.data_ptr(), []))
        yield from (list(dict.fromkeys(linears)) for linears in seen.values())

    def is_own_input(self, linear: nn.Module) -> bool:
        """Return True if a map reads the sub-block's input."""
        return linear in self._own

    def gram(self, linear: nn.Module) -> Gram:
        """Return the Gram matrix of a map's inputs, with the weights that the module has now."""
        wanted = cast(nn.Linear, linear)
        gram = Gram.zeros(wanted.in_features, 0, wanted.weight.device)
        with self._hooked([wanted], lambda module, args: gram.add(args[0])):
            for call in self._calls:
                self._run(call)
        return gram

    def _linears(self) -> list[nn.Module]:
        return [module for module in self._module.modules() if isinstance(module, nn.Linear)]

    @contextmanager
    def _hooked(self, linears: Sequence[nn.Module], note: Any) -> Iterator[None]:
        hooks = [linear.register_forward_pre_hook(note) for linear in linears]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _run(self, call: TracedBatch) -> Tensor:
        """Run the sub-block on a call's inputs, which are returned."""
        _, trace = call
        with repeatable(trace.ffn_input.device):
            if self._sub_block == "attention":
                self._module(hidden_states=trace.attention_input, **trace.attention_kwargs)
                return trace.attention_input
            self._module(trace.ffn_input)
            return trace.ffn_input
