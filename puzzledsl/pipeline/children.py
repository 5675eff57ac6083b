"""Children of a run as models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.needs import child
from puzzledsl.pipeline.targets import chosen

if TYPE_CHECKING:
    from transformers import PreTrainedModel  # noqa: TID251 (a type only)


def load_made_child(ctx: Context, name: str, *, dtype: Any = None, device: Any = "cpu") -> PreTrainedModel:
    """Load the child of a search or of an uptraining, in evaluation mode. `dtype` None: float32.

    Raises DiagnosticError for an unknown name, and for a child that is not made yet.
    """
    declared = {**ctx.program.searches, **ctx.program.uptrains}
    chosen("search or uptrain", declared, [name], ctx.file, "realise")
    ctx.made(*child(ctx.program, name), "the child")
    from puzzledsl.child.load import load_child

    wanted = {} if dtype is None else {"dtype": dtype}
    return load_child(ctx.build.model(name), device=device, **wanted)
