"""Arguments of an alternative's constructor: their description, and the reader that the checker hands to `read`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from puzzledsl.alternatives.shape import Shape
from puzzledsl.base.diagnostics import Diagnostic, Span
from puzzledsl.base.frozen import record

MAX_COUNT = 2**53
"""The largest whole number that a setting accepts: JSON readers keep integers up to 2**53 exact."""


@record
class Argument:
    """An argument, for editors and docs. `words` are the words that it takes beside numbers; `default` is Markdown."""

    doc: str
    words: tuple[str, ...] = ()
    default: str = ""


class Arguments(ABC):
    """The arguments of one call. Its methods report the user's mistakes and return what is valid."""

    shape: Shape
    """The parent's, as the layer has it."""

    @property
    @abstractmethod
    def failed(self) -> bool:
        """True once a mistake was found."""

    @abstractmethod
    def need(self, *keys: str, help: str) -> None:
        """Report those of `keys` that are missing."""

    @abstractmethod
    def has(self, key: str) -> bool:
        """Return True if the argument is written."""

    @abstractmethod
    def place(self, key: str) -> Span:
        """Return the span of an argument's value; the span of the call if it is missing."""

    @abstractmethod
    def is_valid(self, key: str) -> bool:
        """Return False once a mistake was found in this argument."""

    @abstractmethod
    def whole(self, key: str, default: int, low: int = 0, high: int = MAX_COUNT) -> int:
        """Return a whole number within bounds."""

    @abstractmethod
    def wholes(
        self,
        key: str,
        low: int = 1,
        high: int | None = None,
        check: Callable[[int, Span], Diagnostic | None] = lambda number, span: None,
        help: str = "",
        absent: int | None = None,
    ) -> list[int]:
        """Return the whole numbers of `a | b` within bounds that `check` does not refuse; 0 for a word of the argument.

        Where nothing is written: `absent`, or none. `help`: a line for those out of bounds.
        """

    @abstractmethod
    def widths(self, key: str, multiple: int, whole: int) -> list[int]:
        """Return widths of `25% | 4096`, rounded to the nearest multiple. `whole`: 100 %, and the largest."""

    @abstractmethod
    def refuse(self, key: str, problem: Diagnostic) -> None:
        """Report a mistake in an argument."""

    @abstractmethod
    def affords(self, count: int) -> bool:
        """Return False, reported, if so many alternatives are too many."""
