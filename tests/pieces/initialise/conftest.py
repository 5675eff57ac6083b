"""Initialisers need no gradients."""

from tests.models.least_squares.conftest import no_gradients

__all__ = ["no_gradients"]
