"""One thread for all tests of pieces, whatever the test before has left."""

from tests.scoring.conftest import one_thread

__all__ = ["one_thread"]
