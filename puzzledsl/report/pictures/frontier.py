"""A plot of named points as SVG."""

from __future__ import annotations

from html import escape

from puzzledsl.report.pictures.curves import Curve, Point

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 440, 92, 696, 44, 380  # pixels of the picture and of its axes
_STYLE = (
    "<style>svg{background:#fff;font:12px system-ui,sans-serif;fill:#222}.axis{fill:none;stroke:#444}"
    ".proven{fill:#2563ad;stroke:#2563ad}.main{fill:#b3261e;stroke:#b3261e}.title{font-weight:600;font-size:13px}</style>"
)


def points_as_svg(curve: Curve) -> str:
    """Draw the named points of a plot, the main one in another colour, with its axes and the names that it shows."""

    def x(at: float) -> float:
        return round(LEFT + at * (RIGHT - LEFT), 2)

    def y(at: float) -> float:
        return round(BOTTOM - at * (BOTTOM - TOP), 2)

    y_label = curve.y_label + (", logarithmic" if curve.is_log else "")
    labels = [
        f'x="{(LEFT + RIGHT) // 2}" y="{BOTTOM + 46}" text-anchor="middle">{escape(curve.x_label)}',
        f'transform="translate(18 {(TOP + BOTTOM) // 2}) rotate(-90)" text-anchor="middle">{escape(y_label)}',
        *(f'x="{x(t.at)}" y="{BOTTOM + 18}" text-anchor="middle">{escape(t.text)}' for t in curve.x_ticks),
        *(f'x="{LEFT - 8}" y="{y(t.at) + 4}" text-anchor="end">{escape(t.text)}' for t in curve.y_ticks),
        *(_named(point, x(point.x), y(point.y)) for point in curve.searches if point.name),
    ]
    marks = [
        f'<circle class="{"main" if point.is_main else "proven"}" cx="{x(point.x)}" cy="{y(point.y)}" r="4">'
        f"<title>{escape(point.title)}</title></circle>"
        for point in curve.searches
    ]
    axis = f'<path class="axis" d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    return "\n".join(
        [head, _STYLE, axis, *(f"<text {label}</text>" for label in labels), *marks, "</svg>", ""]
    )


def _named(point: Point, x: float, y: float) -> str:
    """Return a name on its side of a mark."""
    anchor = {"right": "start", "left": "end"}.get(point.side, "middle")
    at = {"right": (x + 9, y + 4), "left": (x - 9, y + 4), "above": (x, y - 10), "below": (x, y + 19)}[
        point.side
    ]
    weight = ' class="title"' if point.is_main else ""
    return f'x="{at[0]:.2f}" y="{at[1]:.2f}" text-anchor="{anchor}"{weight}>{escape(point.name)}'
