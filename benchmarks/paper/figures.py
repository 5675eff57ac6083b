"""Pictures of docs/paper.md from paper.json, as SVG: one function a figure of the paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH_IN, HEIGHT_IN = 6.4, 3.8
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e0e0e0",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "puzzledsl",
}

PICTURES: dict[str, Callable[[Mapping[str, Any]], Figure]] = {}
"""By the table's name; each takes its entry of paper.json."""


def write_figures(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write a picture for each result that has one; the same bytes each time."""
    import matplotlib as mpl

    written = []
    with mpl.rc_context(STYLE):
        for name, draw in PICTURES.items():
            if name in results:
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / f"{name}.svg"
                draw(results[name]).savefig(path, bbox_inches="tight", metadata={"Date": None})
                written.append(path)
    return written
