"""What a program may ask of the checker. Beyond these a person has made a slip, and the checker says so instead of hanging."""

from __future__ import annotations

MAX_DEPTH = 120
"""Nested evaluations: expressions in calls in `let`s. About five Python frames each."""

MAX_STEPS = 200_000
"""Evaluation steps of a whole program."""

MAX_INSTANCES = 20_000
"""Iterations of one `for`, elements of one range or comprehension."""

MAX_BITS = 900
"""Bits of a number's numerator or denominator."""

MAX_FORMULA = 10_000
"""Nodes of one logical formula."""

MAX_OPTIONS = 2_000
"""Options of one choice, after choices inside arguments are multiplied out."""

MAX_LAYERS = 2_000
MAX_COUNT = 2**53
"""The largest whole number a setting takes: what JSON readers keep exact."""

MAX_REQUIREMENTS = 20_000
MAX_FILES = 200
"""Files one program uses, itself included."""

MAX_CELLS = 10_000
"""Attention x FFN pairs of one layer in a table that an expression makes."""

CELLS_PER_STEP = 4
"""Cells of such tables that count as one step of evaluation."""

TERMS_PER_STEP = 4
"""Terms of a sum that count as one step of evaluation."""
