"""Forward passes over rows of one sequence each, without transformers' search for sequences that are packed into a row.

The search looks at positions on the device, so each forward pass would begin by waiting for the one before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import masking_utils

_SEARCH = "find_packed_sequence_indices"


@contextmanager
def whole_rows() -> Iterator[None]:
    """Inside the context, every row is one sequence, as it is where the search finds nothing."""
    untyped: Any = masking_utils
    search = getattr(untyped, _SEARCH, None)
    if search is None:  # another version of transformers
        yield
        return
    setattr(untyped, _SEARCH, lambda position_ids: None)
    try:
        yield
    finally:
        setattr(untyped, _SEARCH, search)
