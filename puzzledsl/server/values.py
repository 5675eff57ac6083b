"""Values and declarations in words: a number in other units, the value of an expression, the summary of a declaration."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import prod

from puzzledsl.base import units
from puzzledsl.base.units import BYTES, COUNT, Quantity, format_quantity
from puzzledsl.changes import words
from puzzledsl.checker.context import Context
from puzzledsl.checker.expressions import values
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import layer_kinds, total_params

MOST = 12
"""Options and elements that are shown."""
_GROUPED = 10**15


def show(value: values.Value, ctx: Context) -> str:
    """Return a value in one line; empty if there is nothing to say."""
    match value:
        case values.Poison():
            return ""
        case Quantity():
            return str(value)
        case values.Text(value=text):
            return f'"{text}"'
        case values.Boolean(value=truth):
            return str(truth).lower()
        case values.Constructed():
            return " ".join(ctx.source(value.span).split())
        case values.Options(options=options):
            return _joined([show(o.value, ctx) for o in options], " | ")
        case values.ListValue(items=items):
            return "[" + _joined([show(i, ctx) for i in items], ", ") + "]"
        case values.RangeValue(low=low, high=high, step=step):
            return f"{low}..{high}" + ("" if step is None else f" step {Quantity(step, low.dimension)}")
        case values.Symbolic(terms=terms) if terms:
            return f"{value.dimension.name}, decided by the search"
        case values.Layers(indices=indices) if indices:
            return f"{len(indices)} layer{'s' if len(indices) > 1 else ''}"
        case values.Facts() | values.SubBlocks() | values.ModelEnd():
            return f"{values.describe(value)}, decided by the search"
        case _:
            return values.describe(value)


def _joined(parts: list[str], sign: str) -> str:
    return sign.join(parts if len(parts) <= MOST else [*parts[:MOST], "…"])


def explain_quantity(text: str) -> str | None:
    """Return the dimension and value of a literal; None for one that is wrong, which a diagnostic says."""
    try:
        quantity = units.parse_quantity(text)
    except units.BadLiteral:
        return None
    meaning = "a plain number" if quantity.dimension == COUNT else quantity.dimension.name
    if quantity.form == "percent":
        meaning = "a share"
    elif quantity.form == "times":
        meaning = "a multiple: beside a metric, of the parent's same metric"
    plain = _plain(quantity, text)
    return f"`{text}`: {meaning}" + (f" = {plain}" if plain else "")


def _plain(quantity: Quantity, text: str) -> str:
    value = quantity.value
    if quantity.form != "plain":
        return f"{float(value):.4g}"
    if quantity.dimension == BYTES:
        decimal = f"{float(value / 10**9):.4g}GB" if value >= 10**9 else ""
        exact = f"{value.numerator:,} bytes" if value.denominator == 1 and value < _GROUPED else ""
        return ", ".join(p for p in (exact, format_quantity(value, BYTES), decimal) if p and p != text)
    if quantity.dimension == units.TIME:
        return f"{float(value):.6g} s"
    return f"{value.numerator:,}" if value.denominator == 1 and 1000 <= value < _GROUPED else ""


def summary(node: object) -> list[str]:
    """Return a few lines about a lowered declaration; none if its text says as much."""
    match node:
        case nodes.Parent(shape=shape):
            tied = ", tied" if shape.tied else ""
            return [
                f"{shape.family}, {_count(total_params(shape))} parameters, {shape.layers} layers",
                f"hidden {shape.hidden}, {shape.heads} heads of {shape.head_dim}, {shape.kv_heads} KV heads, "
                f"intermediate {shape.intermediate}, vocabulary {shape.vocab}{tied}",
                *layer_kinds(shape),
            ]
        case nodes.Hardware(spec=nodes.RooflineHardware() as spec):
            memory = format_quantity(Fraction(spec.memory_bytes), BYTES)
            bandwidth = format_quantity(spec.bandwidth_bytes_per_s, units.BYTES_PER_S)
            peaks = ", ".join(
                f"{d} {format_quantity(f, units.FLOP_PER_S)}" for d, f in spec.flop_per_s.items()
            )
            gpus = f"{spec.gpus} GPU{'s, each' if spec.gpus > 1 else ''}"
            return [
                f"profile `{spec.profile}`: {gpus} {memory}, {bandwidth}, {peaks}",
                f"weights {spec.dtype}, KV cache {spec.kv_dtype}, embedding {spec.embedding_dtype}",
            ]
        case nodes.Scenario():
            batches = " or ".join(map(str, node.batches))
            batch = f"batch {batches}" if batches else "the largest batch that fits"
            return [f"{batch}, {node.prompt} prompt -> {node.output} output tokens, on `{node.hardware}`"]
        case nodes.Space():
            return _space(node)
        case nodes.Bld():
            apart = " and ".join(node.sub_blocks) + " apart"
            how = "attention and FFN together" if node.mode == "coupled" else apart
            return [f"{how}, {_count(node.tokens)} tokens a job, loss `{node.loss}`"]
        case nodes.Search():
            return _search(node)
        case nodes.Frontier():
            children = f", {node.children} children measured at each" if node.children else ""
            return [f"{node.points} points{children}"]
        case nodes.Uptrain():
            weights = [(node.kld, "kld"), (node.cosine, "cosine"), (node.lm, "lm")]
            loss = " + ".join(f"{w:g} {name}" for w, name in weights if w)
            return [f"{_count(node.tokens)} tokens, loss {loss}"]
    return []


def _count(value: int) -> str:
    return format_quantity(Fraction(value), COUNT)


def _space(space: nodes.Space) -> list[str]:
    sizes = Counter((len(c.attention), len(c.ffn)) for c in space.layers)
    rows = [
        f"{count} layer{'s' if count > 1 else ''} with {a} x {f} alternatives"
        for (a, f), count in sizes.most_common(4)
    ]
    rest = len(sizes) - len(rows)
    size = prod(len(c.attention) * len(c.ffn) for c in space.layers)
    exponent = len(str(size)) - 1
    total = f"{size}" if exponent < 6 else f"about 10^{exponent}"
    return [*rows, *([f"… and {rest} other sizes"] if rest > 0 else []), f"{total} children in all"]


def _search(search: nodes.Search) -> list[str]:
    found = [f"over `{search.space}`, {len(search.requirements)} requirements"]
    if search.preferences:
        found.append(f"{len(search.preferences)} preferences")
    if search.solutions > 1:
        found.append(f"{search.solutions} solutions, {search.apart} layers apart")
    rows = [", ".join(found) + f", solver `{search.solver.kind}`"]
    return rows if search.refine is None else [*rows, f"refine = {words.refine(search.refine)}"]
