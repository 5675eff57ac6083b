"""BLD without stored activations: each batch runs through a pipeline of stages, and each stage trains its own pieces on it.

A `StageExecutor` calls the stages, which may run in other processes. All stages save their state every SAVED_STEPS steps, or less
often where saving would take more than SAVED_SHARE of the time. When a worker or the driver is lost, the run resumes from the
last step that all stages had saved. The pieces are those of `pieces.train.sweep`, bit for bit, however often the run is
interrupted.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.cluster.tasks import WorkerLost
from puzzledsl.pieces.train.layer_trainer import Order, is_checked_after
from puzzledsl.pieces.train.stage import Enter, Finished, SavedState, Stage

SAVED_STEPS = 100
"""Steps between two savings: most steps that are repeated when a worker is lost."""
SAVED_SHARE = 0.05
"""Largest share of the time from one saving to the next that a saving may take."""
MAX_LOSSES = 5
"""The run fails when it loses more workers than this between two savings."""


Message = tuple[str, Any, int]
"""(method of `Stage`, batch of tokens, training step that this message completes, or 0)."""


class WorkersJoined(Exception):
    """Further workers can share the work. Everything up to the last step is saved."""


class StageExecutor(Protocol):
    """The stages of a pipeline, in order of their layers, and asynchronous calls to them."""

    @property
    def size(self) -> int:
        """Number of stages."""

    def call(self, stage: int, method: str, *arguments: Any) -> Any:
        """Queue a call after the stage's earlier ones, with handles among the arguments; return the handle of its result."""

    def result(self, answer: Any) -> Any:
        """Wait for the call with this handle and return its result. Raises WorkerLost, or the exception of the call."""

    def restart(self) -> None:
        """Replace the stages by new ones on the present workers. Raises DiagnosticError if there is none."""

    def can_grow(self) -> bool:
        """True if workers have joined with which `restart` would make the stages noticeably shorter."""


class LocalExecutor:
    """A single stage in this process; calls run immediately."""

    size = 1

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def call(self, stage: int, method: str, *arguments: Any) -> Any:
        """See `StageExecutor`."""
        return getattr(self._stage, method)(*arguments)

    def result(self, answer: Any) -> Any:
        """See `StageExecutor`."""
        return answer

    def restart(self) -> None:
        """Do nothing: a stage in this process cannot be lost."""

    def can_grow(self) -> bool:
        """Return False."""
        return False


def stream(
    order: Order, executor: StageExecutor, enter: Enter, progress: Progress, *, saved_steps: int | None = None
) -> None:
    """Make the pieces of an order, resuming after lost workers.

    `enter` is called for each piece whose file is written, with the weights that it keeps ("trained" or "initial"). All stages
    save every `saved_steps` steps (default: SAVED_STEPS, or less often where saving takes long).

    Raises DiagnosticError for the problems that stages report, after finished pieces are entered; WorkerLost after more than
    MAX_LOSSES losses without progress.
    """
    losses, before = 0, None
    while True:
        try:
            return _Attempt(order, executor, progress, Savings(saved_steps)).run(enter)
        except WorkersJoined:
            progress.log("workers_joined", text="workers have joined: the layers are shared out anew")
            executor.restart()
        except WorkerLost as lost:
            saved = SavedState(order).last_step()
            losses, before = (losses + 1, saved) if saved == before else (1, saved)
            progress.log(
                "worker_lost",
                text=f"a worker was lost ({lost}); going on from step {saved or 0}",
                step=saved or 0,
            )
            if losses > MAX_LOSSES:
                raise
            executor.restart()


@dataclass
class Savings:
    """Steps after which the state is saved: every `steps` steps, or for None every SAVED_STEPS unless that takes too long."""

    steps: int | None = None
    _began: float = field(init=False, default=-math.inf)
    _took_s: float = field(init=False, default=0.0)

    def is_due(self, step: int) -> bool:
        """Return True if the state is to be saved after this step."""
        if step % (self.steps or SAVED_STEPS):
            return False
        return self.steps is not None or monotonic() - self._began >= self._took_s / SAVED_SHARE

    def begin(self) -> None:
        """Note that a saving begins."""
        self._began = monotonic()

    def end(self) -> None:
        """Note that the saving is on the disk."""
        self._took_s = monotonic() - self._began


class _Attempt:
    """One attempt to run an order, from the last saved step to the end or the loss of a worker."""

    def __init__(self, order: Order, executor: StageExecutor, progress: Progress, savings: Savings) -> None:
        self._order, self._executor, self._progress = order, executor, progress
        self._savings, self._saved = savings, SavedState(order)
        self._unwritten: int | None = None  # step whose state the stages are writing
        self._saving: Sequence[Any] = ()

    def run(self, enter: Enter) -> None:
        """Run everything after the last saved step: initialisation, training, the final evaluation, and writing pieces."""
        steps, begun = self._order.budget.steps, self._saved.last_step()
        if begun is None:
            executor = self._executor
            entering = [executor.call(0, "embed", batch) for batch in self._order.calibration_batches()]
            for stage in range(executor.size):
                leaving = (
                    [executor.call(stage, "forward", hidden) for hidden in entering]
                    if stage + 1 < executor.size
                    else []
                )
                executor.call(stage, "initialise", *entering)
                entering = leaving
            self._evaluate()
            self._on_all_stages("begin")
            self._saved.commit(0)
            begun = 0
        else:
            self._on_all_stages("restore", begun)
        self._progress.start(f"bld {self._order.name}, steps", steps)
        self._progress.advance(begun, kept=True)
        self._train(begun, steps)
        if steps:
            self._evaluate()
        finished: list[Finished] = self._on_all_stages("finish")
        self._tell([sentence for made in finished for sentence in made.news])
        for piece, kept in (piece for made in finished for piece in made.pieces):
            enter(piece, kept)
        if problems := [problem for made in finished for problem in made.problems]:
            raise DiagnosticError(*problems)

    def _train(self, begun: int, steps: int) -> None:
        """Train from step `begun` to `steps`. Stages save between two of their own steps, so none waits for the last stage."""
        began, tokens, batches = monotonic(), 0, self._order.training_batches()
        asked: deque[tuple[int, int, list[Any]]] = (
            deque()
        )  # sent with a step: step saved, answers of `written`

        def sent(step: int) -> None:
            if not step:
                return
            if self._unwritten is None and (self._savings.is_due(step) or step == steps):
                self._save(step)
            if self._unwritten is not None:
                asked.append((step, self._unwritten, self._call_all("written")))

        for step in self._pass(self._training_messages(begun, steps), sent):
            if not step:
                continue
            tokens += batches[step - 1].numel()
            self._progress.advance(1, tokens_per_s=tokens / max(monotonic() - began, 1e-9))
            while asked and asked[0][0] == step:
                _, saved, answers = asked.popleft()
                if self._commit_if_written(saved, answers) and step < steps and self._executor.can_grow():
                    raise WorkersJoined
        self._settle()
        if self._saved.last_step() != steps:  # an earlier state was being written at the end
            self._save(steps)
            self._settle()

    def _save(self, step: int) -> None:
        """Ask all stages to save their state, which they may write while they go on."""
        self._savings.begin()
        self._unwritten, self._saving = step, self._call_all("save", step)

    def _settle(self) -> None:
        """Wait until all stages have written the state that they save."""
        if self._unwritten is not None:
            self._on_all_stages("flush")
            self._commit_if_written(self._unwritten, self._call_all("written"))

    def _commit_if_written(self, step: int, answers: Sequence[Any]) -> bool:
        """Record a saved step whose state all stages have written. Return False if they have not, or it is recorded already."""
        news = [self._executor.result(answer) for answer in answers]
        self._tell([sentence for told in news if told for sentence in told])
        if step != self._unwritten or any(told is None for told in news):
            return False
        for answer in self._saving:
            self._executor.result(answer)
        self._saved.commit(step)
        self._unwritten = None
        self._savings.end()
        return True

    def _tell(self, sentences: Iterable[str]) -> None:
        for sentence in sentences:
            self._progress.log("memory", text=sentence)

    def _training_messages(self, begun: int, steps: int) -> Iterator[Message]:
        """Yield each step's training batch, followed after some steps by the held-out batch for early stopping."""
        for step, batch in enumerate(self._order.training_batches()[begun:steps], begun + 1):
            checks = self._order.held_out_batches()[:1] if is_checked_after(step, steps) else ()
            yield "step", batch, 0 if checks else step
            for check in checks:
                yield "check", check, step

    def _evaluate(self) -> None:
        for _ in self._pass(("evaluate", batch, 0) for batch in self._order.held_out_batches()):
            pass

    def _pass(
        self, messages: Iterable[Message], sent: Callable[[int], None] = lambda _: None
    ) -> Iterator[int]:
        """Send batches through all stages, two a stage in flight. `sent(step)` is called when one is queued."""
        in_flight: deque[tuple[int, Any]] = deque()
        for method, batch, step in messages:
            hidden = self._executor.call(0, "embed", batch)
            for stage in range(self._executor.size):
                hidden = self._executor.call(stage, method, hidden)
            sent(step)
            in_flight.append((step, hidden))
            if len(in_flight) >= 2 * self._executor.size:
                yield self._arrived(in_flight)
        while in_flight:
            yield self._arrived(in_flight)

    def _arrived(self, in_flight: deque[tuple[int, Any]]) -> int:
        step, hidden = in_flight.popleft()
        self._executor.result(hidden)
        return step

    def _on_all_stages(self, method: str, *arguments: Any) -> list[Any]:
        return [self._executor.result(answer) for answer in self._call_all(method, *arguments)]

    def _call_all(self, method: str, *arguments: Any) -> list[Any]:
        return [self._executor.call(stage, method, *arguments) for stage in range(self._executor.size)]
