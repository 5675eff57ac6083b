"""Limits on the work of the checker. A program beyond them is a mistake, which is reported instead of hanging."""

from __future__ import annotations

MAX_DEPTH = 120
"""Depth of nested evaluations: expressions in calls in `let`s. Each level takes about five Python frames."""

MAX_STEPS = 200_000
"""Evaluation steps of a whole program."""

MAX_INEXACT_STEPS = MAX_STEPS // 2
"""Steps of a program up to which an editor's check may count them inexactly."""

MAX_INSTANCES = 20_000
"""Iterations of one `for`, or elements of one range or comprehension."""

MAX_BITS = 900
"""Bits of a number's numerator or denominator."""

MAX_FORMULA = 10_000
"""Nodes of one logical formula."""

MAX_OPTIONS = 2_000
"""Options of one choice, after choices inside arguments are multiplied out."""

MAX_COUNT = 2**53
"""The largest whole number that a setting accepts: JSON readers keep integers up to 2**53 exact."""

MAX_REQUIREMENTS = 20_000
MAX_FILES = 200
"""Files one program uses, itself included."""

MAX_CELLS = 10_000
"""Attention x FFN pairs of one layer, in a table made by an expression."""

CELLS_PER_STEP = 4
"""Cells of such a table that count as one step of evaluation."""

TERMS_PER_STEP = 4
"""Terms of a sum that count as one step of evaluation."""
