"""`data`."""

from __future__ import annotations

from puzzledsl.checker.context import Context
from puzzledsl.checker.declarations.common import (
    call_of,
    check_parts,
    declaration,
    no_target,
    where,
)
from puzzledsl.checker.declarations.data_mixes import lower_mix, lower_sum
from puzzledsl.checker.declarations.data_sources import lower_source
from puzzledsl.checker.expressions.values import Scope, Symbol
from puzzledsl.ir import nodes
from puzzledsl.syntax import tree


def lower_data(ctx: Context, symbol: Symbol) -> nodes.Data | None:
    """`data d = text(…)`, `jsonl(…)`, `parquet(…)`, `hf(…)`, `mix(…)`, or a sum `0.7 * text(…) + 0.3 * jsonl(…)`."""
    check_parts(ctx, symbol)
    no_target(ctx, symbol)
    decl = declaration(symbol)
    if isinstance(decl.value, tree.Binary):
        source = lower_sum(ctx, decl.value, Scope(symbol.file))
    else:
        call = call_of(ctx, symbol)
        if call is None:
            return None
        if call.base is not None:  # `data e = d`
            other = ctx.lower(call.base, nodes.Data)
            source = None if other is None else other.source
        else:
            source = lower_mix(ctx, call) if call.name == "mix" else lower_source(ctx, call)
    if source is None:
        return None
    return nodes.Data(name=ctx.name_of(symbol), source=source, doc=decl.doc, where=where(ctx, symbol))
