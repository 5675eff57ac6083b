"""Several forwards at once on a CPU: one thread each, with single-threaded matrix products.

A product of a few hundred tokens does not use two cores well (1.4x the speed of one), and splitting it changes the last digits.
With one thread per forward, what is measured is the same bytes for any number of threads.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import TypeVar

import torch

S = TypeVar("S")
T = TypeVar("T")


class Workers:
    """Pool of as many threads as PyTorch may use (`OMP_NUM_THREADS`), or fewer.

    On an accelerator, which has a single queue, the caller does all work itself. So it does for a paged model, where one worker
    would drop the weights that another is about to use. Inside the context, the caller's own products use one thread, too.
    """

    def __init__(self, device: torch.device, *, shared: bool = True, most: int | None = None) -> None:
        """`shared`: several threads may run the model at once, `most` of them, which then share PyTorch's threads."""
        self._on_cpu, self._threads = device.type == "cpu", torch.get_num_threads()
        self.count = min(self._threads, most or self._threads) if self._on_cpu and shared else 1
        self._own = self._threads // self.count if most else 1
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Workers:
        if self._on_cpu:
            torch.set_num_threads(self._own)
        if self.count > 1:
            start = torch.set_num_threads
            self._pool = ThreadPoolExecutor(self.count, initializer=start, initargs=(self._own,))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        if self._on_cpu:
            torch.set_num_threads(self._threads)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run `work` in a worker, without gradients. Without a pool, the caller runs it before this returns."""

        @torch.inference_mode()
        def without_gradients() -> T:
            return work()

        if self._pool is not None:
            return self._pool.submit(without_gradients)
        done: Future[T] = Future()
        done.set_result(without_gradients())
        return done

    def each(self, work: Callable[[S], T], items: Iterable[S]) -> Iterator[tuple[S, T]]:
        """Yield each item with its result, in order. Few more than are worked on are taken ahead."""
        begun: deque[tuple[S, Future[T]]] = deque()
        for item in items:
            begun.append((item, self.submit(partial(work, item))))
            if len(begun) > self.count:
                first, future = begun.popleft()
                yield first, future.result()
        for item, future in begun:
            yield item, future.result()


class Ascent:
    """Progress of a worker up a model's layers. Layers below may be changed; when the context ends, all of them may be."""

    def __init__(self, layer: int) -> None:
        """Start at `layer`."""
        self._layer: float = layer
        self._moved = threading.Condition()

    def to(self, layer: float) -> None:
        """Record that the worker no longer needs any layer below this one."""
        with self._moved:
            self._layer = layer
            self._moved.notify_all()

    def wait_until_above(self, layer_idx: int) -> None:
        """Return when the worker no longer needs this layer."""
        with self._moved:
            self._moved.wait_for(lambda: self._layer > layer_idx)

    def __enter__(self) -> Ascent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.to(math.inf)
