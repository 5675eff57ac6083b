"""BLD without stored activations: each batch runs through a pipeline of stages, and each stage trains its own pieces on it.

A `Crew` calls the stages, which may run in other processes. All stages save their state every SAVED_STEPS steps. When a worker
or the driver is lost, the run resumes from the last step that all stages had saved. The pieces are those of
`pieces.train.sweep`, bit for bit, however often the run is interrupted.
"""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Any, Protocol

from puzzledsl.base.checksums import read_sealed, write_sealed
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.ir.tables import Piece
from puzzledsl.pieces.train.order import Order
from puzzledsl.pieces.train.stage import Finished, Stage, state_dir
from puzzledsl.pieces.train.training import examined_after

SAVED_STEPS = 100
"""Steps between two savings: most steps that are repeated when a worker is lost."""
MAX_LOSSES = 5
"""The run fails when it loses more workers than this between two savings."""


Message = tuple[str, Any, int]
"""(method of `Stage`, batch of tokens, training step that this message completes, or 0)."""


class WorkerLost(Exception):
    """A worker died, or a result that it held is gone. The message describes it for the log."""


class Crew(Protocol):
    """The stages of a pipeline, in order of their layers, and asynchronous calls to them."""

    @property
    def size(self) -> int:
        """Number of stages."""

    def call(self, stage: int, method: str, *arguments: Any) -> Any:
        """Queue a call of a stage's method, after all earlier calls of this stage. Return a handle of its result.

        Arguments may be handles of earlier calls.
        """

    def result(self, answer: Any) -> Any:
        """Wait for the call with this handle and return its result. Raises WorkerLost, or the exception of the call."""

    def renew(self) -> None:
        """Replace the stages by new ones on the remaining workers. Raises DiagnosticError if no worker remains."""


class Alone:
    """A crew of a single stage in this process; calls run immediately."""

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
        """Do nothing: a stage in this process cannot be lost."""


def stream(
    order: Order,
    crew: Crew,
    enter: Callable[[Piece, str], None],
    progress: Progress,
    *,
    saved_steps: int | None = None,
) -> None:
    """Make the pieces of an order, resuming after lost workers.

    `enter` is called for each piece whose file is written, with the weights that it keeps ("trained" or "initial"). All stages
    save every `saved_steps` steps (default SAVED_STEPS).

    Raises DiagnosticError for the problems that stages report, after finished pieces are entered; WorkerLost after more than
    MAX_LOSSES losses without progress.
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
    """One attempt to run an order, from the last saved step to the end or the loss of a worker."""

    def __init__(self, order: Order, crew: Crew, progress: Progress, saved_steps: int) -> None:
        self._order, self._crew, self._progress = order, crew, progress
        self._saved_steps = saved_steps
        self._last = crew.size - 1

    def run(self, enter: Callable[[Piece, str], None]) -> None:
        """Run everything after the last saved step: initialisation, training, the final examination, and writing pieces."""
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
        """Train from step `begun` to `steps`. Stages save between two of their own steps, so none waits for the last stage."""
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
        """Yield each step's training batch, followed after some steps by the held-out batch for early stopping."""
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
        """Send batches through all stages, with up to two per stage in flight so that every stage stays busy.

        `sent(step)` is called when a batch is queued at all stages. Its step is yielded when the batch has left the last stage.
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
        """Record that every stage has saved this step, so that a run resumes from it; delete the state of earlier steps."""
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
    """Return the last step that all stages saved, 0 being the initial weights.

    None if nothing is saved, or the record is damaged or lacks some of the order's jobs.
    """
    content = read_sealed(state_dir(order.work) / "saved.json")
    if content is None:
        return None
    saved = json.loads(content)
    return int(saved["step"]) if {job.id for job in order.jobs} <= set(saved["jobs"]) else None
