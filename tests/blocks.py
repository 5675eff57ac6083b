"""Blocks of a text in memory, for tests."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from puzzledsl.data.streams import Stream, Tokens, token_rows


def token_blocks(*source: Any, **settings: Any) -> torch.LongTensor:
    """The blocks of `token_rows`, int64 [N, context]; tokenised anew without a `cache`."""
    with TemporaryDirectory() as folder:
        return token_rows(*source, **{**settings, "cache": settings.get("cache") or Path(folder)})[:]


def stream_in_memory(tokens: Tokens) -> Stream:
    """A stream of no file; a negative number is a token that does not count."""
    made = Stream.__new__(Stream)
    made.tokens, made.masked = tokens, bool((tokens < 0).any())
    return made
