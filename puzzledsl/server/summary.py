"""Summary of a declaration in a few lines of Markdown."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import prod

from puzzledsl.base.units import BYTES, BYTES_PER_S, COUNT, FLOP_PER_S, format_quantity
from puzzledsl.ir import nodes
from puzzledsl.ir.facts import total_params
from puzzledsl.ir.layer_kinds import layer_kinds


def summary(node: object) -> list[str]:
    """Summary of a lowered declaration; empty where its text says as much."""
    match node:
        case nodes.Parent(shape=shape):
            return _shape(shape)
        case nodes.Hardware(spec=nodes.RooflineHardware() as spec):
            return _profile(spec)
        case nodes.Scenario():
            return _scenario(node)
        case nodes.Space():
            return _space(node)
        case nodes.Bld():
            how = (
                "attention and FFN together"
                if node.mode == "coupled"
                else " and ".join(node.sub_blocks) + " apart"
            )
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


def _shape(shape: nodes.Shape) -> list[str]:
    return [
        f"{shape.family}, {_count(total_params(shape))} parameters, {shape.layers} layers",
        f"hidden {shape.hidden}, {shape.heads} heads of {shape.head_dim}, {shape.kv_heads} KV heads, "
        f"intermediate {shape.intermediate}, vocabulary {shape.vocab}" + (", tied" if shape.tied else ""),
        *layer_kinds(shape),
    ]


def _profile(spec: nodes.RooflineHardware) -> list[str]:
    memory = format_quantity(Fraction(spec.memory_bytes), BYTES)
    bandwidth = format_quantity(spec.bandwidth_bytes_per_s, BYTES_PER_S)
    peaks = ", ".join(f"{d} {format_quantity(f, FLOP_PER_S)}" for d, f in spec.flop_per_s.items())
    gpus = f"{spec.gpus} GPU{'s, each' if spec.gpus > 1 else ''}"
    return [
        f"profile `{spec.profile}`: {gpus} {memory}, {bandwidth}, {peaks}",
        f"weights {spec.dtype}, KV cache {spec.kv_dtype}, embedding {spec.embedding_dtype}",
    ]


def _scenario(scenario: nodes.Scenario) -> list[str]:
    batches = [str(b) for b in scenario.batches]
    batch = "the largest batch that fits" if not batches else f"batch {' or '.join(batches)}"
    return [f"{batch}, {scenario.prompt} prompt -> {scenario.output} output tokens, on `{scenario.hardware}`"]


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
    if (refine := search.refine) is not None:
        healed = f"healed on {_count(refine.healed)} tokens" if refine.healed else "not healed"
        positions = f"{_count(refine.samples)} positions" + (f" of `{refine.data}`" if refine.data else "")
        rows.append(
            f"refined: {refine.children} children, {healed}, measured on {positions} (`{refine.method}`)"
        )
    return rows
