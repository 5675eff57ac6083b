"""Fixtures of these tests."""

from tests.api.programs import program

__all__ = ["program"]
