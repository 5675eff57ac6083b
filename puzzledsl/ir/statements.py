"""A requirement as its program writes it."""

from __future__ import annotations

from puzzledsl.ir.nodes import LinearRequirement, Requirement


def written(requirement: Requirement) -> str:
    """`chat.throughput >= 2.1x`: what stands behind `require`."""
    text = requirement.where.text.removeprefix("require").strip()
    if isinstance(requirement, LinearRequirement):
        bound = requirement.bound_where.text.strip()
        if bound and bound not in text:  # each side has its own place
            text = f"{text} {requirement.op} {bound}"
    return text or "…"
