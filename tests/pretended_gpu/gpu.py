"""The context in which this process has a GPU: what is replaced, and undone at its end."""

from __future__ import annotations

import threading
from collections import Counter
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
from tests.pretended_gpu.operators import Operators
from tests.pretended_gpu.state import CUDA, State

GIB = 1 << 30


class Gpu:
    """The pretended GPU as a test sees it."""

    def __init__(self, state: State) -> None:
        self._state = state

    @property
    def held_bytes(self) -> int:
        """Bytes on the device now."""
        return self._state.memory.held_bytes

    @property
    def peak_bytes(self) -> int:
        """The most bytes on the device at once since `reset_peak`."""
        return self._state.memory.peak_bytes

    def reset_peak(self) -> None:
        """Take what is on the device now as the peak."""
        self._state.memory.reset_peak()

    @property
    def limit_bytes(self) -> int:
        """Memory of the device; more raises torch.OutOfMemoryError."""
        return self._state.memory.limit_bytes

    @limit_bytes.setter
    def limit_bytes(self, value: int) -> None:
        self._state.memory.limit_bytes = value

    @property
    def waits(self) -> Counter[str]:
        """Waits for the device by `what file.py:line`."""
        return self._state.waits

    def waits_in(self, part: str) -> Counter[str]:
        """Waits at call sites that contain `part`."""
        return Counter({site: count for site, count in self.waits.items() if part in site})

    @property
    def any_order(self) -> Counter[str]:
        """Operators by call site whose sums CUDA adds in any order, so that results differ from run to run."""
        return self._state.any_order

    @property
    def attention(self) -> Counter[tuple[torch.dtype, bool, bool]]:
        """Calls of scaled_dot_product_attention by (dtype, grouped, masked)."""
        return self._state.attention

    @property
    def flop(self) -> Counter[torch.dtype]:
        """Floating-point operations of matrix products, by dtype."""
        return self._state.flop


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
    state = State(memory_bytes, capability)
    state.replays = replays
    with ExitStack() as stack:
        for target, name, value in _replacements(state, external_events):
            stack.enter_context(mock.patch.object(target, name, value))
        stack.enter_context(_modes(state))
        stack.enter_context(_in_new_threads(state))
        yield Gpu(state)


@contextmanager
def _modes(state: State) -> Iterator[None]:
    with Calls(state), Operators(state):
        yield


@contextmanager
def _in_new_threads(state: State) -> Iterator[None]:
    run: Callable[..., None] = threading.Thread.run

    def with_modes(thread: threading.Thread) -> None:
        with _modes(state):
            run(thread)

    with mock.patch.object(threading.Thread, "run", with_modes):
        yield


def _cpu(device: Any) -> Any:
    return "cpu" if device is not None and torch.device(device).type == "cuda" else device


def _replacements(state: State, external_events: bool) -> Iterator[tuple[Any, str, Any]]:
    memory, api = state.memory, CudaApi(state)
    major, minor = state.capability
    properties = SimpleNamespace(
        name="pretended",
        total_memory=memory.limit_bytes,
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
        "get_device_capability": lambda device=None: state.capability,
        "get_device_name": lambda device=None: "pretended",
        "is_bf16_supported": lambda *args, **kwargs: state.capability >= (8, 0),
        "mem_get_info": lambda device=None: (memory.limit_bytes - memory.held_bytes, memory.limit_bytes),
        "memory_allocated": lambda device=None: memory.held_bytes,
        "memory_reserved": lambda device=None: memory.held_bytes,
        "max_memory_allocated": lambda device=None: memory.peak_bytes,
        "max_memory_reserved": lambda device=None: memory.peak_bytes,
        "reset_peak_memory_stats": lambda device=None: memory.reset_peak(),
        "empty_cache": lambda: None,
        "synchronize": api.synchronize,
        "get_rng_state": lambda device=None: no_state.clone(),
        "set_rng_state": lambda new, device=None: None,
        "Stream": Stream,
        "Event": api.event_class(has_external=external_events),
        "CUDAGraph": lambda: Graph(state.replays),
        "graph": api.graph,
        "stream": api.stream,
        "current_stream": lambda device=None: Stream(),
        "default_stream": lambda device=None: Stream(),
        "is_current_stream_capturing": lambda: bool(state.capturing),
    }
    yield from ((torch.cuda, name, value) for name, value in cuda.items())
    yield torch.Tensor, "record_stream", lambda tensor, stream: None  # takes streams of a real device alone
    yield from _autocast()

    class Generator(torch.Generator):
        def __new__(cls, device: Any = "cpu") -> Any:
            return torch._C.Generator(_cpu(device))

    yield torch, "Generator", Generator
    for module in ("torch.nn.utils.clip_grad", "torch.optim.optimizer"):
        yield import_module(module), "_group_tensors_by_device_and_dtype", _grouped(state)
    import torch.distributed as dist

    init = dist.init_process_group
    yield dist, "init_process_group", lambda backend=None, *args, **kwargs: init("gloo", *args, **kwargs)


def _grouped(state: State) -> Callable[..., Any]:
    """Return PyTorch's grouping of tensors by device and dtype, which reads devices past any mode."""
    real = torch.utils._foreach_utils._group_tensors_by_device_and_dtype

    def grouped(lists: Any, *args: Any, **kwargs: Any) -> Any:
        found = real(lists, *args, **kwargs)
        first = [next((t for t in tensors[0] if t is not None), None) for tensors, _ in found.values()]
        on_gpu = [tensor is not None and state.memory.holds(tensor) for tensor in first]
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
