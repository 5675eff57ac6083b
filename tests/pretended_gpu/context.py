"""The context in which this process has a GPU: what is replaced, and undone at its end."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from transformers.generation import continuous_batching  # noqa: F401 (its annotations name torch.cuda.CUDAGraph)

from tests.pretended_gpu.calls import Calls
from tests.pretended_gpu.cuda import CudaApi, Graph, Stream
from tests.pretended_gpu.gpu import CUDA, Gpu
from tests.pretended_gpu.operators import Operators

GIB = 1 << 30


@contextmanager
def pretended_gpu(
    memory_bytes: int = 80 * GIB,
    *,
    capability: tuple[int, int] = (9, 0),
    external_events: bool = True,
    replays: int | None = None,
) -> Iterator[Gpu]:
    """Inside the context, this process and the threads that it starts have one CUDA device.

    `capability`: below (8, 0) it has no bfloat16. `external_events` False: as with an older PyTorch. `replays`: how often a
    CUDA graph's operators are run again; after that its replay does nothing.
    """
    gpu = Gpu(memory_bytes, capability, replays)
    with ExitStack() as stack:
        for target, name, value in _replacements(gpu, external_events):
            stack.enter_context(mock.patch.object(target, name, value))
        stack.enter_context(_modes(gpu))
        yield gpu


@contextmanager
def _modes(gpu: Gpu) -> Iterator[None]:
    """This thread has the GPU, and those that are started have it."""
    run: Callable[..., None] = threading.Thread.run

    def with_modes(thread: threading.Thread) -> None:
        with Calls(gpu), Operators(gpu):
            run(thread)

    with mock.patch.object(threading.Thread, "run", with_modes), Calls(gpu), Operators(gpu):
        yield


def _cpu(device: Any) -> Any:
    return "cpu" if device is not None and torch.device(device).type == "cuda" else device


def _replacements(gpu: Gpu, external_events: bool) -> Iterator[tuple[Any, str, Any]]:
    api, (major, minor) = CudaApi(gpu), gpu.capability
    properties = SimpleNamespace(
        name="pretended",
        total_memory=gpu.limit_bytes,
        L2_cache_size=1 << 20,
        major=major,
        minor=minor,
        multi_processor_count=1,
    )
    no_state = torch.zeros(16, dtype=torch.uint8)
    cuda: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "get_device_properties": lambda device=None: properties,
        "get_device_capability": lambda device=None: gpu.capability,
        "get_device_name": lambda device=None: "pretended",
        "is_bf16_supported": lambda *args, **kwargs: gpu.capability >= (8, 0),
        "mem_get_info": lambda device=None: (gpu.limit_bytes - gpu.held_bytes, gpu.limit_bytes),
        "memory_allocated": lambda device=None: gpu.held_bytes,
        "memory_reserved": lambda device=None: gpu.held_bytes,
        "max_memory_allocated": lambda device=None: gpu.peak_bytes,
        "max_memory_reserved": lambda device=None: gpu.peak_bytes,
        "reset_peak_memory_stats": lambda device=None: gpu.reset_peak(),
        "empty_cache": lambda: None,
        "synchronize": api.synchronize,
        "get_rng_state": lambda device=None: no_state.clone(),
        "set_rng_state": lambda new, device=None: None,
        "Stream": Stream,
        "Event": api.event_class(has_external=external_events),
        "CUDAGraph": lambda: Graph(gpu.replays),
        "graph": api.graph,
        "stream": api.stream,
        "current_stream": lambda device=None: Stream(),
        "default_stream": lambda device=None: Stream(),
        "is_current_stream_capturing": lambda: bool(gpu.capturing),
    }
    yield from ((torch.cuda, name, value) for name, value in cuda.items())
    yield torch.Tensor, "record_stream", lambda tensor, stream: None  # takes streams of a real device alone
    yield from _autocast()

    class Generator(torch.Generator):
        def __new__(cls, device: Any = "cpu") -> Any:
            return torch._C.Generator(_cpu(device))

    yield torch, "Generator", Generator
    for module in ("torch.nn.utils.clip_grad", "torch.optim.optimizer"):
        yield import_module(module), "_group_tensors_by_device_and_dtype", _grouped(gpu)
    import torch.distributed as dist

    init = dist.init_process_group
    yield dist, "init_process_group", lambda backend=None, *args, **kwargs: init("gloo", *args, **kwargs)


def _grouped(gpu: Gpu) -> Callable[..., Any]:
    """Return PyTorch's grouping of tensors by device and dtype, which reads devices past any mode."""
    real = torch.utils._foreach_utils._group_tensors_by_device_and_dtype

    def grouped(lists: Any, *args: Any, **kwargs: Any) -> Any:
        found = real(lists, *args, **kwargs)
        first = [next((t for t in tensors[0] if t is not None), None) for tensors, _ in found.values()]
        on_gpu = [tensor is not None and gpu.holds(tensor) for tensor in first]
        return {
            (CUDA if held else device, dtype): tensors
            for held, ((device, dtype), tensors) in zip(on_gpu, found.items(), strict=True)
        }

    return grouped


def _autocast() -> Iterator[tuple[Any, str, Any]]:
    real, enabled, dtype_of = torch.autocast, torch.is_autocast_enabled, torch.get_autocast_dtype

    class Autocast(real):  # type: ignore[misc, valid-type]
        def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
            super().__init__(_cpu(device_type), *args, **kwargs)

    yield torch, "autocast", Autocast
    yield torch.amp, "autocast", Autocast
    yield (
        torch,
        "is_autocast_enabled",
        lambda device=None: enabled(_cpu(device)) if device else enabled("cpu"),
    )
    yield torch, "get_autocast_dtype", lambda device: dtype_of(_cpu(device))
