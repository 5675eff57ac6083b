"""Several replacements at once on a CPU: a thread each, whose products are not split among cores.

A product of one replacement's size keeps no two cores busy (1.4x of one), and what is split has other last digits than what is
not. So a replacement's figures are the same bytes however many threads there are.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import torch

T = TypeVar("T")


class Workers:
    """As many as PyTorch may use threads (`OMP_NUM_THREADS`); on an accelerator, whose queue is one, none but the caller.

    While open, the caller's own products use one thread.
    """

    def __init__(self, device: torch.device) -> None:
        self.count = torch.get_num_threads() if device.type == "cpu" else 1
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Workers:
        if self.count > 1:
            torch.set_num_threads(1)
            self._pool = ThreadPoolExecutor(self.count, initializer=torch.set_num_threads, initargs=(1,))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self.count)

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
