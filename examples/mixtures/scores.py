"""Synthetic score tables for the programs beside this file: `python examples/mixtures/scores.py`.

Nothing is measured. A sub-block's score is `depth * cut ** 2`: `cut` is the share of the parent's parameters that the
alternative lacks (a window counts as a tenth, a no-op as 1.5 times all of them), and `depth` is larger at both ends of the
model, as measured scores are. Use the tables to try searches out, not to choose a child.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import PARENTS
from puzzledsl.checker.check import check
from puzzledsl.ir.nodes import Program, Shape

HERE = Path(__file__).parent
SPACE = "wide"
WINDOW, NO_OP = 0.1, 1.5


def cut(alternative: Alternative, shape: Shape) -> float:
    """Return the share of the parent's sub-block that is gone in a layer of this shape."""
    if alternative.kind == "noop":
        return NO_OP
    whole = PARENTS[alternative.sub_block]
    narrower = alternative.alone(shape).window != whole.alone(shape).window
    active = alternative.size(shape).used / whole.size(shape).used
    return 1 - (alternative.params(shape) / whole.params(shape) + active) / 2 + WINDOW * narrower


def depth(layer: int, layers: int) -> float:
    """Return the weight of a layer: 1 in the middle, 4 at the first and the last; every third layer matters more."""
    place = 2 * layer / (layers - 1) - 1
    return (1 + 3 * place**4) * (1.3 if layer % 3 == 0 else 1.0)


def rows(program: Program) -> Iterator[tuple[object, ...]]:
    """Yield layer, attention, FFN and score of every alternative but the parent's, which scores 0."""
    space = program.spaces[SPACE]
    shape = program.parents[space.parent].shape
    for layer, choice in enumerate(space.layers):
        for alternative in (*choice.attention, *choice.ffn):
            if alternative.kind != "parent":
                score = 0.02 * depth(layer, shape.layers) * cut(alternative, shape.at(layer)) ** 2
                name = alternative.name
                names = (name, "") if alternative.sub_block == "attention" else ("", name)
                yield layer, *names, f"{score:.3g}"


def main() -> None:
    """Write a table for each program."""
    for path in sorted(HERE.glob("*.pzl")):
        checked = check(path, {})
        assert checked.program is not None, checked.diagnostics
        with path.with_name(f"{path.stem}_synthetic.csv").open("w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("layer", "attention", "ffn", "synthetic"))
            table.writerows(rows(checked.program))


if __name__ == "__main__":
    main()
