"""The program of tests/plan, whose solutions become definitions of children."""

from tests.plan.conftest import program, small

__all__ = ["program", "small"]
