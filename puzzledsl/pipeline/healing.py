"""Digests of healing: the method, the tokens and the text; and the importance of inputs on that text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from puzzledsl.ir import nodes
from puzzledsl.ir.references import measured_searches
from puzzledsl.ir.tables import Assignment
from puzzledsl.pipeline import needs
from puzzledsl.pipeline.context import Context
from puzzledsl.pipeline.digests import digest_of
from puzzledsl.pipeline.inputs import data_inputs

if TYPE_CHECKING:
    from puzzledsl.export.importance import Importance

HEALING = "2"
"""Version of the method; raised when it changes, so that children healed before are made again."""


def healing_of_children(ctx: Context, blds: Sequence[str]) -> str:
    """Digest for children that are built: the method, the tokens and the text of each BLD."""
    if not ctx.heal:
        return "none"
    declared = [ctx.program.blds[name] for name in blds]
    healing = [name for name in blds if ctx.program.blds[name].heal_tokens]
    method = [HEALING, [bld.heal_tokens for bld in declared], _texts(ctx, healing)]
    refined = _refined_samples(ctx)
    return digest_of([*method, refined] if refined else method)


def healed_from(ctx: Context, search: str, layers: Sequence[Assignment]) -> dict[str, str]:
    """Digests of all that a healed child of a search depends on. Raises DiagnosticError where pieces are not there."""
    space = ctx.program.searches[search].space
    blds = needs.blds_of(ctx.program, space)
    return {
        "layers": digest_of([layer.model_dump() for layer in layers]),
        "parent": ctx.fingerprint(space, "realise"),
        "healing": healing_of_children(ctx, blds),
        **{bld: ctx.made("bld", bld, "the pieces") for bld in blds},
    }


def healing_work(ctx: Context, search: str, layers: Sequence[Assignment]) -> Path:
    """Return the folder in which a child of a search is healed, by refining and by building it."""
    return ctx.build.work("realise", f"{search}-{digest_of(healed_from(ctx, search, layers))[:16]}")


def healing_of_scores(ctx: Context, blds: Sequence[str]) -> str:
    """Digest for what is scored after healing: the method, the text, and how much of it may be scored."""
    methods = [score.method for score in ctx.program.scores.values()]
    samples = [method.samples for method in methods if isinstance(method, nodes.ReplaceOne)]
    return digest_of([HEALING, _texts(ctx, blds), max([*samples, *_refined_samples(ctx)])])


def _refined_samples(ctx: Context) -> list[int]:
    """Positions that children are measured on around each search. No child is healed on this text."""
    return [search.refine.samples for search in measured_searches(ctx.program) if search.refine is not None]


def _texts(ctx: Context, blds: Sequence[str]) -> list[dict[str, str]]:
    declared = [ctx.program.blds[name] for name in blds]
    return [data_inputs(ctx, bld.heal_data or bld.data) for bld in declared]


def importance(ctx: Context, space: str, model: Path) -> Importance | None:
    """Return the importance of a model's inputs on the text that children of a space are healed on; None without one."""
    from puzzledsl.child.healing.text import healing_text
    from puzzledsl.export.importance import importance_of
    from puzzledsl.models.families.load import load_tokenizer

    for bld in ctx.program.blds.values():
        if bld.space == space:
            given = load_tokenizer(model), ctx.build.tokens, ctx.progress
            text = healing_text(ctx.program, bld, ctx.base, *given)
            return None if text is None else importance_of(model, text[0])
    return None
