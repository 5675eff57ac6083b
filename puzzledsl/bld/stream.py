"""BLD whose activations are never kept: batches run through stages of consecutive layers, each feeds its own pieces.

The stages may be anywhere: a `Crew` calls them. Every SAVED_STEPS steps all of them save what they know, and where a worker
is lost, or the driver itself, everything goes on from the last time that all had saved. The pieces are those of the sweep,
bit for bit, wherever and however often interrupted they are made.
"""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Any, Protocol

from puzzledsl.bld.order import Order
from puzzledsl.bld.stage import Finished, Stage, state_dir
from puzzledsl.bld.training import examined_after
from puzzledsl.diagnostics import DiagnosticError
from puzzledsl.ir.tables import Piece
from puzzledsl.progress import Progress
from puzzledsl.seals import read_sealed, write_sealed

SAVED_STEPS = 100
"""Steps between two savings: what is lost at most when a worker is."""
MAX_LOSSES = 5
"""Workers lost between two savings before the run gives up."""


Message = tuple[str, Any, int]
"""What a stage is told to do with a batch, and the step that ends with it (0: none does)."""


class WorkerLost(Exception):
    """A worker died, or what it made is gone. `what` says which, for the log."""


class Crew(Protocol):
    """Stages, in order of their layers."""

    @property
    def size(self) -> int:
        """How many."""

    def call(self, stage: int, method: str, *arguments: Any) -> Any:
        """Have a stage do something, after all that it was told before. Arguments may be what earlier calls returned."""

    def result(self, answer: Any) -> Any:
        """Wait for what a call returned. Raises WorkerLost, or what the call raised."""

    def renew(self) -> None:
        """Replace the stages by new ones, on the workers that are left. Raises DiagnosticError where there are none."""


class Alone:
    """A crew of one stage, in this process."""

    size = 1

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def call(self, stage: int, method: str, *arguments: Any) -> Any:
        """See `Crew`."""
        return getattr(self._stage, method)(*arguments)

    def result(self, answer: Any) -> Any:
        """See `Crew`."""
        return answer

    def renew(self) -> None:
        """Nothing can be lost."""


def stream(
    order: Order,
    crew: Crew,
    enter: Callable[[Piece, str], None],
    progress: Progress,
    *,
    saved_steps: int | None = None,
) -> None:
    """Make the pieces of an order; `enter` is told of each whose file is written, and whether it was better trained.

    All stages save every `saved_steps` steps (SAVED_STEPS).

    Raises DiagnosticError: what stages find wrong; whatever is finished by then is entered.
    """
    losses, before = 0, None
    while True:
        try:
            return _Drive(order, crew, progress, saved_steps or SAVED_STEPS).run(enter)
        except WorkerLost as lost:
            saved = _saved_step(order)
            losses, before = (losses + 1, saved) if saved == before else (1, saved)
            progress.log(
                "worker_lost",
                text=f"a worker was lost ({lost}); going on from step {saved or 0}",
                step=saved or 0,
            )
            if losses > MAX_LOSSES:
                raise
            crew.renew()


class _Drive:
    """One try."""

    def __init__(self, order: Order, crew: Crew, progress: Progress, saved_steps: int) -> None:
        self._order, self._crew, self._progress = order, crew, progress
        self._saved_steps = saved_steps
        self._last = crew.size - 1

    def run(self, enter: Callable[[Piece, str], None]) -> None:
        """All that is not saved yet."""
        steps, begun = self._order.budget.steps, _saved_step(self._order)
        if begun is None:
            self._begin()
            begun = 0
        else:
            self._everyone("restore", begun)
        self._progress.start(f"bld {self._order.name}, steps", steps)
        self._progress.advance(begun)
        self._train(begun, steps)
        if steps:
            self._examine()
        self._finish(enter)

    def _begin(self) -> None:
        crew = self._crew
        entering = [crew.call(0, "embed", batch) for batch in self._order.calibration_batches()]
        for stage in range(crew.size):
            leaving = (
                [crew.call(stage, "forward", hidden) for hidden in entering] if stage < self._last else []
            )
            crew.call(stage, "initialise", *entering)
            entering = leaving
        self._examine()
        self._everyone("begin")
        self._commit(0)

    def _train(self, begun: int, steps: int) -> None:
        """Stages save between two steps of their own, so that nobody waits for the last one."""
        began, tokens, batches = monotonic(), 0, self._order.training_batches()
        savings: deque[tuple[int, list[Any]]] = deque()

        def sent(step: int) -> None:
            if step and (step % self._saved_steps == 0 or step == steps):
                answers = [self._crew.call(stage, "save", step) for stage in range(self._crew.size)]
                savings.append((step, answers))

        for step in self._pass(self._lessons(begun, steps), sent):
            if not step:
                continue
            tokens += batches[step - 1].numel()
            self._progress.advance(1, tokens_per_s=tokens / max(monotonic() - began, 1e-9))
            if savings and savings[0][0] == step:
                for answer in savings.popleft()[1]:
                    self._crew.result(answer)
                self._commit(step)

    def _lessons(self, begun: int, steps: int) -> Iterator[Message]:
        """Each step's batch, and after some the held-out batch that says whether a piece still learns."""
        for step, batch in enumerate(self._order.training_batches()[begun:steps], begun + 1):
            checks = self._order.held_out_batches()[:1] if examined_after(step, steps) else ()
            yield "teach", batch, 0 if checks else step
            for check in checks:
                yield "check", check, step

    def _examine(self) -> None:
        for _ in self._pass(("examine", batch, 0) for batch in self._order.held_out_batches()):
            pass

    def _pass(
        self, messages: Iterable[Message], sent: Callable[[int], None] = lambda _: None
    ) -> Iterator[int]:
        """Send batches through all stages, a few at a time: as many are on their way as keep every stage busy.

        `sent` is told of each when all stages have been told of it; the step it ends is yielded when it has arrived.
        """
        on_their_way: deque[tuple[int, Any]] = deque()
        for method, batch, step in messages:
            hidden = self._crew.call(0, "embed", batch)
            for stage in range(self._crew.size):
                hidden = self._crew.call(stage, method, hidden)
            sent(step)
            on_their_way.append((step, hidden))
            if len(on_their_way) >= 2 * self._crew.size:
                yield self._arrived(on_their_way)
        while on_their_way:
            yield self._arrived(on_their_way)

    def _arrived(self, on_their_way: deque[tuple[int, Any]]) -> int:
        step, hidden = on_their_way.popleft()
        self._crew.result(hidden)
        return step

    def _everyone(self, method: str, *arguments: Any) -> list[Any]:
        answers = [self._crew.call(stage, method, *arguments) for stage in range(self._crew.size)]
        return [self._crew.result(answer) for answer in answers]

    def _commit(self, step: int) -> None:
        """From here a run goes on, once every stage has saved."""
        saved = {"step": step, "jobs": [job.id for job in self._order.jobs]}
        write_sealed(state_dir(self._order.work) / "saved.json", json.dumps(saved))
        for old in state_dir(self._order.work).glob("step-*"):
            if int(old.name.removeprefix("step-")) < step:  # stages may be writing later ones
                shutil.rmtree(old, ignore_errors=True)

    def _finish(self, enter: Callable[[Piece, str], None]) -> None:
        finished: list[Finished] = self._everyone("finish")
        for made in finished:
            for piece, kept in zip(made.pieces, made.kept, strict=True):
                enter(piece, kept)
        if problems := [problem for made in finished for problem in made.problems]:
            raise DiagnosticError(*problems)


def _saved_step(order: Order) -> int | None:
    """Where all stages saved last; None before there are initial weights, where the note of it is damaged or of other jobs."""
    content = read_sealed(state_dir(order.work) / "saved.json")
    if content is None:
        return None
    saved = json.loads(content)
    return int(saved["step"]) if {job.id for job in order.jobs} <= set(saved["jobs"]) else None
