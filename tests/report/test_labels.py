"""Names of marks: on a side where they cover no other mark and no line, inside the picture."""

from __future__ import annotations

import pytest

from puzzledsl.report.pictures.curves import WIDTH_PX, Place, Side, side_of

MARK = (0.5, 0.5)
NEAR: dict[Side, Place] = {
    "right": (0.54, 0.5),
    "left": (0.46, 0.5),
    "below": (0.5, 0.43),
    "above": (0.5, 0.57),
}


@pytest.mark.parametrize(("taken", "side"), [(0, "right"), (1, "left"), (2, "below"), (3, "above")])
def test_the_first_side_that_is_free(taken: int, side: Side) -> None:
    assert side_of("best", MARK, list(NEAR.values())[:taken]) == side


def test_where_no_side_is_free_the_name_covers_the_least() -> None:
    twice = [*NEAR.values(), *(NEAR[side] for side in ("right", "left", "above"))]
    assert side_of("best", MARK, twice) == "below"


def test_lines_are_not_covered() -> None:
    """One through the mark, then one above it as well."""
    level = [(0.1, 0.5), (0.9, 0.5)]
    assert side_of("best", MARK, [], [level]) == "below"
    assert side_of("best", MARK, [], [level, [(0.1, 0.44), (0.9, 0.44)]]) == "above"


def test_names_stay_in_the_picture() -> None:
    name = "proven optimum of the scores"
    assert 0.7 + 6 * len(name) / WIDTH_PX < 1
    assert side_of(name, (0.7, 0.5), []) == "right"
    assert side_of(name, (0.9, 0.5), []) == "left"
    corner = side_of("best", (0.5, 0.01), [(0.54, 0.01), (0.46, 0.01)])
    assert corner == "above"
