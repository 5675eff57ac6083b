"""Models of the build directory's files that no stage reads as an artefact: the log, caches, records of training."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, RootModel

from puzzledsl.cli.schemas.described import Output
from puzzledsl.ir.tables import Piece


class LogLine(BaseModel):
    """One event of a run: `start`, `end` and `fresh` of a task, and what stages report. Events have fields of their own."""

    model_config = ConfigDict(extra="allow")

    time: str
    event: str
    stage: str | None = None
    name: str | None = None
    seconds: float | None = None
    text: str | None = None


class FiguresKey(Output):
    """The first line: everything that the figures depend on, as JSON in a text."""

    key: str


class FiguresLine(RootModel[FiguresKey | tuple[int, str, str, dict[str, float]]]):
    """The layer, the table, the alternative, and what was measured under each name; the first line is the key."""


class UptrainRecord(Output):
    """Record of an uptraining. KLs to the parent in nats on held-out text; `best_step` is the step whose weights were kept."""

    uptrain: str
    dtype: str
    peak_rate: float
    steps: int
    tokens: int
    heldout_tokens: int
    heldout_kl: dict[str, float]
    heldout_kl_before: float
    heldout_kl_after: float
    best_step: int


class PieceLine(Piece):
    """A piece, with the first 16 digits of the SHA-256 of the rest of the line, so that a changed one is noticed."""

    check: str
