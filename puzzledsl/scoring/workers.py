"""Several replacements at once on a CPU: a thread each, whose products are not split among cores.

A product of one replacement's size keeps no two cores busy (1.4x of one), and what is split has other last digits than what is
not. So a replacement's figures are the same bytes however many threads there are.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import torch

T = TypeVar("T")


class Workers:
    """As many as PyTorch may use threads (`OMP_NUM_THREADS`); on an accelerator, whose queue is one, none but the caller, and
    the same for a model whose weights come and go: one worker would forget what another is about to read.

    While open, the caller's own products use one thread.
    """

    def __init__(self, device: torch.device, *, shared: bool = True) -> None:
        """`shared`: the model may be run by several threads."""
        self._on_cpu, self._threads = device.type == "cpu", torch.get_num_threads()
        self.count = self._threads if self._on_cpu and shared else 1
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Workers:
        if self._on_cpu:
            torch.set_num_threads(1)
        if self.count > 1:
            self._pool = ThreadPoolExecutor(self.count, initializer=torch.set_num_threads, initargs=(1,))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        if self._on_cpu:
            torch.set_num_threads(self._threads)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Start `work`, without gradients; a lone caller has done it when this returns."""

        @torch.inference_mode()
        def without_gradients() -> T:
            return work()

        if self._pool is not None:
            return self._pool.submit(without_gradients)
        done: Future[T] = Future()
        done.set_result(without_gradients())
        return done


class Ascent:
    """How far up a model's layers a worker has come: what is below may be changed. At its end, it is above them all."""

    def __init__(self, layer: int) -> None:
        """It begins at this layer."""
        self._layer: float = layer
        self._moved = threading.Condition()

    def to(self, layer: float) -> None:
        """All layers below this one are done with."""
        with self._moved:
            self._layer = layer
            self._moved.notify_all()

    def wait_until_above(self, layer_idx: int) -> None:
        """Returns when this layer is done with."""
        with self._moved:
            self._moved.wait_for(lambda: self._layer > layer_idx)

    def __enter__(self) -> Ascent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.to(math.inf)
