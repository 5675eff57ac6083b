"""A breakdown as self-contained SVG: two bar charts over the layers, time above and bytes below."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from html import escape

from puzzledsl.base.frozen import record
from puzzledsl.base.units import BYTES, TIME, format_quantity
from puzzledsl.costs.breakdown import Breakdown, LayerCost

WIDTH, LEFT, RIGHT = 960, 88, 16
PANEL, GAP, TOP, BOTTOM = 190, 64, 72, 40
HEIGHT = TOP + 2 * PANEL + GAP + BOTTOM
COLOURS = {"attention": "#4269d0", "ffn": "#efb118", "layer": "#4269d0", "KV cache": "#ff725c"}
TICKS = 4

Piece = tuple[str, int]  # what it is, how much


@record
class _Panel:
    """One chart: its title, what each layer's bar is stacked of, and how an amount is written."""

    title: str
    top: int
    pieces: Callable[[LayerCost], list[Piece]]
    shown: Callable[[Fraction], str]


def as_svg(found: Breakdown) -> str:
    """The picture. The same breakdown gives the same bytes."""
    title = f"{found.model}: {found.scenario} on {found.hardware}, batch {found.batch}, {found.prompt} → {found.output} tokens"
    panels = (
        _Panel("latency of one batch, by layer", TOP, lambda x: _latency(found, x), _time),
        _Panel("bytes on each GPU, by layer", TOP + PANEL + GAP, _sizes, _size),
    )
    body = [line for panel in panels for line in _panel(found, panel)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
            ' font-family="sans-serif" font-size="12">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            f'<text x="{LEFT}" y="24" font-size="15" font-weight="bold">{escape(title)}</text>',
            f'<text x="{LEFT}" y="42" fill="#555">{escape(found.provenance)}</text>',
            *body,
            "</svg>",
            "",
        ]
    )


def as_html(found: Breakdown) -> str:
    """A page with the picture."""
    title = escape(f"{found.model}, {found.scenario}")
    head = f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n'
    return f'{head}<body style="margin:2em auto;max-width:{WIDTH}px">\n{as_svg(found)}</body>\n</html>\n'


def _time(nanoseconds: Fraction) -> str:
    return format_quantity(nanoseconds / 10**9, TIME, 3)


def _size(count: Fraction) -> str:
    return format_quantity(count, BYTES, 3)


def _latency(found: Breakdown, layer: LayerCost) -> list[Piece]:
    if layer.whole:
        return [("layer", found.latency_ns(layer.whole))]
    return [("ffn", found.latency_ns(layer.ffn)), ("attention", found.latency_ns(layer.attention))]


def _sizes(layer: LayerCost) -> list[Piece]:
    cache = ("KV cache", layer.total.kv_cache_bytes)
    if layer.whole:
        return [("layer", layer.whole.weights_bytes), cache]
    return [("ffn", layer.ffn.weights_bytes), ("attention", layer.attention.weights_bytes), cache]


def _panel(found: Breakdown, panel: _Panel) -> Iterator[str]:
    bars = [panel.pieces(layer) for layer in found.layers]
    tallest = max((sum(amount for _, amount in pieces) for pieces in bars), default=0) or 1
    bottom = panel.top + PANEL
    yield f'<text x="{LEFT}" y="{panel.top - 10}" font-weight="bold">{panel.title}</text>'
    yield from _legend(
        dict.fromkeys(name for pieces in bars for name, amount in pieces if amount), panel.top - 18
    )
    for tick in range(TICKS + 1):
        y = bottom - PANEL * tick / TICKS
        label = panel.shown(Fraction(tallest * tick, TICKS)) if tick else "0"
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{label}</text>'
    step = (WIDTH - LEFT - RIGHT) / max(1, len(bars))
    for layer, pieces in zip(found.layers, bars, strict=True):
        x, base = LEFT + step * layer.index, float(bottom)
        for name, amount in pieces:
            if not amount:
                continue
            height = PANEL * amount / tallest
            base -= height
            choice = {"attention": layer.choice.attention, "ffn": layer.choice.ffn}.get(name, "")
            tip = f"layer {layer.index}, {name} {choice}".rstrip() + f": {panel.shown(Fraction(amount))}"
            yield (
                f'<rect x="{x + step * 0.08:.2f}" y="{base:.2f}" width="{step * 0.84:.2f}" height="{height:.2f}" '
                f'fill="{COLOURS[name]}"><title>{escape(tip)}</title></rect>'
            )
    every = max(1, -(-len(bars) // 16))
    for index in range(0, len(bars), every):
        yield f'<text x="{LEFT + step * (index + 0.5):.1f}" y="{bottom + 16}" text-anchor="middle" fill="#555">{index}</text>'


def _legend(names: dict[str, None], y: int) -> Iterator[str]:
    x = WIDTH - RIGHT - 110 * len(names)
    for name in names:
        yield f'<rect x="{x}" y="{y}" width="10" height="10" fill="{COLOURS[name]}"/>'
        yield f'<text x="{x + 15}" y="{y + 9}">{name}</text>'
        x += 110
