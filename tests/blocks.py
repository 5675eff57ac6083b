"""Blocks of a text in memory, for tests."""

from __future__ import annotations

from typing import Any

import torch

from puzzledsl.data.blocks import token_rows


def token_blocks(*source: Any, **settings: Any) -> torch.LongTensor:
    """The blocks of `token_rows`, int64 [N, context]."""
    return token_rows(*source, **settings)[:]
