"""Independent verification of answers in exact fractions."""
