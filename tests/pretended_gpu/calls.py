"""PyTorch's Python calls as a process with a GPU would see them: devices, copies between devices, factories, attention."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tests.pretended_gpu.gpu import CUDA, Gpu, tensors_in

T: Any = Tensor
FROM_HOST = (torch.tensor, torch.as_tensor)
"""Factories that copy Python values or NumPy arrays, so that the host waits."""


class Calls(TorchFunctionMode):
    """Answers questions about devices, moves tensors by tagging copies, and watches attention. One object a thread."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self._gpu = gpu
        self._handlers: dict[Any, Callable[..., Any]] = {
            T.device.__get__: self._device,
            T.is_cuda.__get__: lambda func, tensor: self._gpu.holds(tensor),
            T.is_cpu.__get__: lambda func, tensor: not self._gpu.holds(tensor) and func(tensor),
            T.get_device: lambda func, tensor: 0 if self._gpu.holds(tensor) else func(tensor),
            T.numpy: self._numpy,
            T.__array__: self._numpy,
            T.tolist: self._tolist,
            T.cpu: lambda func, tensor, *args, **kwargs: self._moved(tensor, "cpu"),
            T.cuda: lambda func, tensor, device=None, non_blocking=False, **kwargs: self._moved(
                tensor, CUDA, non_blocking=non_blocking
            ),
            T.to: self._to,
            T.type_as: lambda func, tensor, other: self._to(func, tensor, other),
            T.pin_memory: self._pin,
            T.is_pinned: lambda func, tensor, *args: gpu.is_pinned(tensor),
            T.__deepcopy__: self._like_first,
            T.new_tensor: self._like_first,
            F.scaled_dot_product_attention: self._attention,
            torch.mm: self._mm,
            torch.histc: self._histc,
        }

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a handler, or a factory with its device, or the function itself."""
        kwargs = kwargs or {}
        handler = self._handlers.get(func)
        if handler is not None:
            return handler(func, *args, **kwargs)
        if kwargs.get("pin_memory"):
            made = func(*args, **{**kwargs, "pin_memory": False})
            self._gpu.pin(made)
            return made
        if kwargs.get("device") is not None:
            return self._made_on(func, args, dict(kwargs))
        return func(*args, **kwargs)

    def _made_on(self, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        device = torch.device(kwargs["device"])
        if device.type == "meta":
            return func(*args, **kwargs)
        made = func(*args, **{**kwargs, "device": "cpu"})
        given = {id(tensor) for tensor in tensors_in(args, kwargs)}
        fresh = [tensor for tensor in tensors_in(made) if id(tensor) not in given]
        for tensor in fresh:
            if device.type == "cuda":
                self._gpu.put(tensor)
            else:
                self._gpu.drop(tensor)
        if device.type == "cuda" and func in FROM_HOST and any(t.numel() for t in fresh):
            self._gpu.wait("copy to GPU")
        return made

    def _device(self, func: Callable[..., Any], tensor: Tensor) -> torch.device:
        return CUDA if self._gpu.holds(tensor) else func(tensor)

    def _numpy(self, func: Callable[..., Any], tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self._gpu.holds(tensor):
            raise TypeError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
            )
        return func(tensor, *args, **kwargs)

    def _tolist(self, func: Callable[..., Any], tensor: Tensor) -> Any:
        if self._gpu.holds(tensor):
            self._gpu.wait("tolist")
        return func(tensor)

    def _to(self, func: Callable[..., Any], tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        copy = kwargs.pop("copy", False)
        other = args[0] if args and isinstance(args[0], Tensor) else kwargs.get("other")
        if isinstance(other, Tensor):
            device: Any = CUDA if self._gpu.holds(other) else torch.device("cpu")
            dtype: Any = other.dtype
            non_blocking = kwargs.get("non_blocking", False)
        else:
            device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
        if device is not None and device.type == "meta":
            return func(tensor, *args, **kwargs)
        cast = tensor.to(dtype or tensor.dtype, copy=copy)
        return cast if device is None else self._moved(cast, device, non_blocking=non_blocking)

    def _moved(self, tensor: Tensor, device: Any, *, non_blocking: bool = False) -> Tensor:
        to_gpu = torch.device(device).type == "cuda"
        if tensor.is_meta or self._gpu.holds(tensor) == to_gpu:
            return tensor
        if not (non_blocking and (to_gpu and self._gpu.is_pinned(tensor))):
            self._gpu.wait("copy to GPU" if to_gpu else "copy to CPU")
        if tensor.requires_grad and torch.is_grad_enabled():
            return _Moved.apply(tensor, self._gpu, to_gpu)  # type: ignore[no-untyped-call, no-any-return]
        return self._gpu.copy(tensor, to_gpu)

    def _pin(self, func: Callable[..., Any], tensor: Tensor, *args: Any) -> Tensor:
        if self._gpu.holds(tensor):
            raise RuntimeError("cannot pin 'torch.cuda.FloatTensor': only dense CPU tensors can be pinned")
        pinned = tensor.clone()
        self._gpu.pin(pinned)
        return pinned

    def _like_first(self, func: Callable[..., Any], tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        made = func(tensor, *args, **kwargs)
        if self._gpu.holds(tensor):
            self._gpu.put(made)
        return made

    def _attention(
        self, func: Callable[..., Any], query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        if self._gpu.holds(query):
            cast = torch._C.is_autocast_enabled("cpu")
            dtype = torch._C.get_autocast_dtype("cpu") if cast else query.dtype
            grouped = bool(kwargs.get("enable_gqa")) and query.shape[-3] != key.shape[-3]
            self._gpu.attention[dtype, grouped, kwargs.get("attn_mask") is not None] += 1
            assert not (grouped and dtype == torch.float32), (
                "grouped attention in float32 takes the math kernel, which holds a score for every pair of positions"
            )
        return func(query, key, value, *args, **kwargs)

    def _mm(self, func: Callable[..., Any], a: Tensor, b: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """`torch.mm(…, out_dtype=…)` exists on CUDA only."""
        out_dtype = kwargs.get("out_dtype", args[0] if args else None)
        if out_dtype is None or not self._gpu.holds(a):
            return func(a, b, *args, **kwargs)
        flop = 2 * a.shape[0] * a.shape[1] * b.shape[1]
        self._gpu.flop[a.dtype] += flop
        self._gpu.flop[out_dtype] -= flop
        return func(a.to(out_dtype), b.to(out_dtype))

    def _histc(self, func: Callable[..., Any], tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Integers are counted on CUDA only."""
        if tensor.is_floating_point() or not self._gpu.holds(tensor):
            return func(tensor, *args, **kwargs)
        return func(tensor.float(), *args, **kwargs).to(tensor.dtype)


class _Moved(torch.autograd.Function):
    """A copy to the other device, whose gradient goes back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, gpu: Gpu, to_gpu: bool) -> Tensor:
        ctx.gpu, ctx.to_gpu = gpu, to_gpu
        return gpu.copy(tensor, to_gpu)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.gpu.copy(gradients[0], not ctx.to_gpu), None, None
