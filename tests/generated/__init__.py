"""Typed programs of every kind and feature, valid by construction: `program(random.Random(seed))` is a text without mistakes."""

from tests.generated.program import program

__all__ = ["program"]
