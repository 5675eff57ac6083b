"""Copies between the host's memory and a GPU that overlap with computation: pinned memory, a stream of its own, one copy ahead.

On a CPU nothing is copied.

Shapes: B sequences, S positions, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

Deliver = Callable[[Tensor], None]
"""Take a tensor in the host's memory; it is valid during the call."""


def uploaded(parts: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Yield tensors of the host's memory on the device, in order. The next one is copied while the caller uses one."""
    if device.type != "cuda":
        yield from (part.to(device) for part in parts)
        return
    here, stream = torch.cuda.current_stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copied(part: Tensor) -> Tensor:
        """Begin the copy of a part, into memory of the current stream, which may have been in use until now."""
        if part.is_cuda:
            return part
        copy = torch.empty(part.shape, dtype=part.dtype, device=device)
        stream.wait_stream(here)
        with torch.cuda.stream(stream):
            return copy.copy_(part.pin_memory(), non_blocking=True)

    try:
        waiting: Tensor | None = None
        for part in parts:
            following = copied(part)
            if waiting is not None:
                yield waiting
            here.wait_stream(stream)
            waiting = following
        if waiting is not None:
            yield waiting
    finally:
        here.wait_stream(stream)  # before the memory of a copy that nobody waits for is used again


class Downloads:
    """Copies from the device to the host, each delivered when the next one is asked for, or by `finish`."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._waiting = device, None if device.type != "cuda" else _Waiting()

    def add(self, tensor: Tensor, deliver: Deliver) -> None:
        """Deliver a tensor's content in the host's memory, in the order of these calls."""
        if self._waiting is None or not tensor.is_cuda:
            self.finish()
            deliver(tensor)
            return
        pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        pinned.copy_(tensor, non_blocking=True)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record(torch.cuda.current_stream(self._device))
        self._waiting.put(copied, pinned, deliver)

    def finish(self) -> None:
        """Deliver what is under way."""
        if self._waiting is not None:
            self._waiting.deliver()


class _Waiting:
    """A copy under way: the event that ends it, its memory, and who gets it."""

    def __init__(self) -> None:
        self._copy: tuple[torch.cuda.Event, Tensor, Deliver] | None = None

    def put(self, copied: torch.cuda.Event, pinned: Tensor, deliver: Deliver) -> None:
        """Deliver the copy before, and wait for this one next."""
        before, self._copy = self._copy, (copied, pinned, deliver)
        _deliver(before)

    def deliver(self) -> None:
        """Deliver the copy under way."""
        before, self._copy = self._copy, None
        _deliver(before)


def _deliver(copy: tuple[torch.cuda.Event, Tensor, Deliver] | None) -> None:
    if copy is not None:
        copied, pinned, deliver = copy
        copied.synchronize()
        deliver(pinned)
