"""Typed programs of every kind and feature, valid by construction: `program(random.Random(seed))` is a text without mistakes."""

import random

from tests.generated.constants import assertion, definitions
from tests.generated.machines import data, hardware, parents, scenarios
from tests.generated.searches import searches
from tests.generated.spaces import spaces
from tests.generated.stages import aftermath, pieces
from tests.generated.writer import Writer


def program(chance: random.Random, lines: int = 0) -> str:
    """The text of a program of some 20 to 110 lines without mistakes, or of at least `lines`.

    The same source of chance gives the same text.
    """
    w = Writer(chance)
    parents(w)
    if w.maybe(0.4):
        w.item(assertion(w))
    data(w)
    hardware(w)
    definitions(w)
    scenarios(w)
    while True:
        spaces(w)
        pieces(w)
        searches(w)
        aftermath(w)
        if sum(map(len, w.items)) >= lines:
            break
    if w.maybe(0.3):
        w.items.insert(0, ["## A generated program.", "# It searches a child."])
    return w.text()
