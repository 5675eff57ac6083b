"""Children that were measured around a search's optimum, in the report."""

from __future__ import annotations

ORIGINS: dict[str, str] = {
    "optimum": "the optimum of the scores",
    "block_influence": "layers dropped by block influence",
    "angular_run": "one run of layers dropped",
    "model": "an optimum of refitted scores",
    "drawn": "drawn at random",
    "mutated": "a change of one measured before",
}
"""Origins of measured children, in words."""
