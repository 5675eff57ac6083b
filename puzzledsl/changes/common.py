"""Compare parts of a search over the alternatives that two spaces have in common.

If a space loses its no-op, `count(attention is noop)` changes its value but remains the same requirement. The change
is then reported for the space, not for every requirement that refers to it.
"""

from __future__ import annotations

import json
from typing import Any

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.base.frozen import Frozen
from puzzledsl.ir import nodes

Common = dict[SubBlock, set[str]]
_NO_MEANING = {"where", "runtime_where", "bound_where", "because"}


def common_names(old: nodes.Space, new: nodes.Space) -> Common:
    """Return the canonical names that each sub-block can choose in some layer of both spaces, and `parent`."""

    def names(space: nodes.Space, sub_block: SubBlock) -> set[str]:
        choices = (c.attention if sub_block == "attention" else c.ffn for c in space.layers)
        return {"parent", *(alternative.name for choice in choices for alternative in choice)}

    return {
        "attention": names(old, "attention") & names(new, "attention"),
        "ffn": names(old, "ffn") & names(new, "ffn"),
    }


def meaning(node: Frozen, common: Common) -> str:
    """Return a text that is equal for two requirements or goals exactly if they agree over the common alternatives."""
    return json.dumps(_restricted(node.model_dump(mode="json"), common), sort_keys=True)


def _restricted(value: Any, common: Common) -> Any:
    if isinstance(value, list):
        return [_restricted(part, common) for part in value]
    if not isinstance(value, dict):
        return value
    value = {key: _restricted(part, common) for key, part in value.items() if key not in _NO_MEANING}
    match value.get("kind"):
        case "is" | "count":
            value["alternatives"] = [a for a in value["alternatives"] if a in common[value["sub_block"]]]
        case "and":
            value["operands"] = [o for o in value["operands"] if not _is_idle(o)]
        case "or" | "cardinality":
            value["operands"] = [o for o in value["operands"] if not _never_holds(o)]
        case "table":
            return _restricted_table(value, common)
        case "distinct":
            value["taken"] = [_restricted_table(each, common) for each in value["taken"]]
    return value


def _never_holds(formula: dict[str, Any]) -> bool:
    """Return True for a statement that has no common alternative left, and so cannot hold for one."""
    if formula["kind"] == "is":
        return not formula["alternatives"]
    return formula["kind"] == "or" and not formula["operands"]


def _is_idle(formula: dict[str, Any]) -> bool:
    """Return True for `a implies b` if `a` never holds."""
    return formula["kind"] == "implies" and _never_holds(formula["condition"])


def _restricted_table(table: dict[str, Any], common: Common) -> dict[str, Any]:
    """Return a table's cells of common alternatives, keyed by name so that their order does not matter."""
    rows = [(i, a) for i, a in enumerate(table["attention"]) if a in common["attention"]] or [(0, "")]
    columns = [(j, f) for j, f in enumerate(table["ffn"]) if f in common["ffn"]] or [(0, "")]
    cells = {f"{a}/{f}": table["values"][i][j] for i, a in rows for j, f in columns}
    return {"layers": table["layers"], "cells": cells}
