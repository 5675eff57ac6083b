"""Transformers' classes of each family."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import nn

from puzzledsl.families.registry import FAMILIES
from puzzledsl.models.families.clamped import ClampedMLP

DENSE: dict[str, type[nn.Module]] = {"gpt_oss": ClampedMLP}
"""Dense FFNs of families whose classes in transformers have none."""


@dataclass(frozen=True, slots=True)
class Classes:
    """Classes of one family."""

    causal_lm: type[Any]
    attention: type[nn.Module]
    ffn: type[nn.Module]
    mixture: type[nn.Module] | None


@cache
def classes_of(model_type: str) -> Classes:
    """Return a family's classes; the module that defines them is imported on first use."""
    family = FAMILIES[model_type]
    module = importlib.import_module(f"transformers.models.{family.module}.modeling_{family.module}")

    def named(end: str) -> Any:
        return getattr(module, f"{family.prefix}{end}", None)

    return Classes(
        named("ForCausalLM"),
        named("Attention"),
        DENSE.get(model_type) or named("MLP"),
        named(family.mixture.block),
    )
