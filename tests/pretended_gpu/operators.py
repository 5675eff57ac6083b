"""PyTorch's operators, those of backward passes too: tag outputs, refuse two devices, count waits and products."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.pretended_gpu.gpu import NOTHING, Gpu, call_site, tensors_in

aten = torch.ops.aten
READS = {
    aten._local_scalar_dense,
    aten.item,
    aten.nonzero,
    aten.equal,
    aten.masked_select,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten._linalg_check_errors,
    aten.bincount,
}
"""Operators whose result the host needs before it can go on."""
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
BETWEEN_DEVICES = {aten.copy_, aten._to_copy}
ANY_ORDER = {
    aten.index_add,
    aten.index_add_,
    aten.scatter_add,
    aten.scatter_add_,
    aten.scatter_reduce,
    aten.scatter_reduce_,
    aten.embedding_dense_backward,
    aten._scaled_dot_product_flash_attention_for_cpu_backward,
    aten._scaled_dot_product_flash_attention_backward,
    aten._scaled_dot_product_efficient_attention_backward,
    aten._scaled_dot_product_cudnn_attention_backward,
}
"""Operators that add floating-point numbers in any order on CUDA, unless deterministic algorithms are on."""


class Operators(TorchDispatchMode):
    """Sees every operator of a thread. One object a thread."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Check the inputs, run the operator, tag the outputs."""
        kwargs = dict(kwargs or {})
        with NOTHING():
            tensors = tensors_in(args, kwargs)
            on_gpu = any(map(self._gpu.holds, tensors))
            if on_gpu:
                self._look_at(func, args, kwargs, tensors)
        out = func(*args, **kwargs)
        if on_gpu and func.overloadpacket is not aten.copy_:
            for tensor in tensors_in(out):
                self._gpu.put(tensor)
        for graph in self._gpu.capturing if on_gpu else ():
            graph.note(func, args, kwargs, out)  # type: ignore[attr-defined]
        return out

    def _look_at(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], tensors: list[Tensor]) -> None:
        packet = func.overloadpacket
        elsewhere = [t for t in tensors if t.dim() and not t.is_meta and not self._gpu.holds(t)]
        if packet in READS:
            self._gpu.wait(packet.__name__.strip("_"))
        elif packet in INDEXING:
            self._indexing(args)
            elsewhere = [] if self._gpu.holds(args[0]) else elsewhere
        elif packet in BETWEEN_DEVICES:
            if elsewhere:
                self._copy(args, kwargs)
            return
        if elsewhere:
            where = [(tuple(t.shape), "cuda" if self._gpu.holds(t) else "cpu") for t in tensors]
            raise RuntimeError(f"Expected all tensors to be on the same device: {func}, {where}")
        in_order = torch.are_deterministic_algorithms_enabled() or not any(
            t.is_floating_point() for t in tensors
        )
        if packet in ANY_ORDER and not in_order:
            self._gpu.any_order[f"{packet.__name__} {call_site()}"] += 1
        if (count := FLOP.get(packet)) is not None:
            self._gpu.flop[tensors[-1].dtype] += count(args)

    def _indexing(self, args: Sequence[Any]) -> None:
        indices = [t for t in args[1] if isinstance(t, Tensor)]
        if any(t.dtype in (torch.bool, torch.uint8) for t in indices):
            self._gpu.wait("boolean index")
        if any(t.dim() and not self._gpu.holds(t) for t in indices):
            self._gpu.wait("copy to GPU")

    def _copy(self, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        to, source = args[0], args[1] if len(args) > 1 and isinstance(args[1], Tensor) else args[0]
        non_blocking = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
        if not (non_blocking and (self._gpu.is_pinned(to) or self._gpu.is_pinned(source))):
            self._gpu.wait("copy to GPU" if self._gpu.holds(to) else "copy to CPU")


def _of_mm(a: Any, b: Any) -> int:
    return 2 * prod(a.shape) * int(b.shape[-1])


FLOP: dict[Any, Callable[[Sequence[Any]], int]] = {
    aten.mm: lambda args: _of_mm(args[0], args[1]),
    aten.bmm: lambda args: _of_mm(args[0], args[1]),
    aten.addmm: lambda args: _of_mm(args[1], args[2]),
    aten.addmm_: lambda args: _of_mm(args[1], args[2]),
    aten.baddbmm: lambda args: _of_mm(args[1], args[2]),
}
"""Floating-point operations of a matrix product, from an operator's arguments."""
