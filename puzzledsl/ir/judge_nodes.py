"""Judges: texts and questions that searches choose a child by, and the figures that they measure of it.

A requirement on such a figure is met or missed by a child that was built and measured. Before any is, a search is given a first
guess: a bound on a score's sum, which measured children move.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Literal

from puzzledsl.base.frozen import Frozen, record
from puzzledsl.base.settings import setting
from puzzledsl.ir.base import Declaration, Exact

JUDGED_CHILDREN = 12
"""Children that a search with a requirement on a judged figure measures, unless its `refine` says another number."""
_LEAST = Fraction(1, 1000)
"""The lowest first guess, in nats: a requirement that nothing is lost has children to begin with."""


@record
class JudgedFigure:
    """A figure that `JUDGE.NAME` gives of a child.

    `of_parent`: its bound is a multiple of the parent's (`1.05x`). `guess`: the bound on a summed KL divergence, in nats, that a
    search begins with for this bound.
    """

    name: str
    better: Literal["less", "more"]
    doc: str
    guess: Callable[[Fraction], Fraction]
    of_parent: bool = False
    example: str = ""

    def first(self, bound: Fraction) -> Fraction:
        """Return the bound on the summed KL divergence that a search begins with."""
        return max(_LEAST, self.guess(bound))


_FIGURES = (
    JudgedFigure(
        "kl",
        "less",
        "KL divergence of the child from the parent on the judge's text, nats a token.",
        lambda bound: bound,
        example="0.05",
    ),
    JudgedFigure(
        "kept",
        "more",
        "Accuracy beyond chance that the child keeps: `(child - chance) / (parent - chance)` over all tasks.",
        lambda bound: 1 - bound,
        example="95%",
    ),
    JudgedFigure(
        "agreement",
        "more",
        "Share of tokens at which child and parent hold the same one for the likeliest.",
        lambda bound: 1 - bound,
        example="90%",
    ),
    JudgedFigure(
        "perplexity",
        "less",
        "Perplexity of the judge's text as a multiple of the parent's.",
        lambda bound: bound - 1,
        of_parent=True,
        example="1.05x",
    ),
)
JUDGED = {figure.name: figure for figure in _FIGURES}
"""Figures of a judge by name. The first guesses are orders of magnitude: what children measure replaces them."""


class Judge(Declaration):
    """Texts and questions that searches choose a child by. They are not those of an evaluation, which reports on the child."""

    parent: str
    tasks: tuple[str, ...] = ()
    items: int | None = setting("Items of each task.", default=None, at_least=1)
    data: str = setting(
        "The text that the child is compared with the parent on.",
        kinds=("data",),
        write="write `data = heldout`, a text that nothing is trained on",
    )
    tokens: int = setting("Tokens of the text.", default=8192)
    sure: Exact = setting(
        "How sure a requirement is: the one-sided confidence that a measured figure meets it.",
        default=Fraction(4, 5),
        at_least=Fraction(1, 2),
        at_most=Fraction(999, 1000),
        shown="`80%`",
    )
    dtype: Literal["fp32", "bf16"] | None = setting(
        "Number type in which models answer the tasks.", default=None, noun="dtype of tasks"
    )


class Judged(Frozen):
    """A requirement on a figure that a judge measures of whole children: `taste.kl <= 0.05`."""

    judge: str
    figure: str
    bound: Exact

    @property
    def record(self) -> JudgedFigure:
        """The figure."""
        return JUDGED[self.figure]

    @property
    def op(self) -> Literal["<=", ">="]:
        """The comparison: a figure of which less is better has an upper bound."""
        return "<=" if self.record.better == "less" else ">="
