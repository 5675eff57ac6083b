"""Streams, events and graphs of the pretended device. A graph's replay runs the captured operators again on the same memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.pretended_gpu.gpu import Gpu, tensors_in


class Stream:
    """A stream: work is finished when it is queued."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def wait_stream(self, other: Stream) -> None: ...

    def wait_event(self, event: Any) -> None: ...

    def record_event(self, event: Any = None) -> Any:
        if event is not None:
            event.record()
        return event

    def query(self) -> bool:
        return True

    def synchronize(self) -> None: ...

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: Any) -> None: ...


class Graph:
    """Operators of a capture, with their arguments and results, and what events were recorded between them."""

    def __init__(self, replays: int | None) -> None:
        self._tape: list[Callable[[], None]] = []
        self._events: list[Callable[[], None]] = []
        self._left = replays

    def note(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Add an operator: its replay writes into the memory of the results that it has now."""
        results = tensors_in(out)

        def again() -> None:
            for result, now in zip(results, tensors_in(func(*args, **kwargs)), strict=True):
                if result.data_ptr() != now.data_ptr():
                    result.copy_(now)

        self._tape.append(again)

    def note_event(self, record: Callable[[], None]) -> None:
        """Add an event."""
        self._tape.append(record)
        self._events.append(record)

    def replay(self) -> None:
        """Run everything again; after as many times as were allowed, record the events alone."""
        tape = self._tape if self._left is None or self._left > 0 else self._events
        self._left = None if self._left is None else self._left - 1
        for again in tape:
            again()

    def reset(self) -> None:
        """Forget everything."""
        self._tape.clear()


class CudaApi:
    """The functions and classes of `torch.cuda` that the package and its libraries use."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def event_class(self, *, has_external: bool) -> type:
        """Return a class of events; `has_external`: as of PyTorch 2.8, with an argument for events inside graphs."""
        gpu = self._gpu

        class Event:
            def __init__(
                self,
                enable_timing: bool = False,
                blocking: bool = False,
                interprocess: bool = False,
                **more: Any,
            ) -> None:
                if more and (not has_external or set(more) != {"external"}):
                    raise TypeError(f"Event() got an unexpected keyword argument {next(iter(more))!r}")
                self._external, self._at = bool(more.get("external")), 0.0

            def record(self, stream: Any = None) -> None:
                for graph in gpu.capturing:
                    assert self._external, "an event inside a graph has no time unless it is external"
                    graph.note_event(self._now)  # type: ignore[attr-defined]
                self._now()

            def _now(self) -> None:
                self._at = time.perf_counter()

            def elapsed_time(self, end: Any) -> float:
                return float(1e3 * (end._at - self._at))

            def query(self) -> bool:
                return True

            def wait(self, stream: Any = None) -> None: ...

            def synchronize(self) -> None:
                gpu.wait("event")

        return Event

    @contextmanager
    def graph(self, graph: Graph, *_: Any, **__: Any) -> Iterator[None]:
        """Capture what runs inside."""
        self._gpu.capturing.append(graph)
        try:
            yield
        finally:
            self._gpu.capturing.remove(graph)

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        """Queue on a stream."""
        yield

    def synchronize(self, device: Any = None) -> None:
        """Count a wait."""
        self._gpu.wait("synchronize")
