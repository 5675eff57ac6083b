"""Scores with pairwise terms: `python -m benchmarks.second_order [--seeds 3]`.

A replacement changes the logits by a vector; a child's score is half the squared length of the sum of its changes, so singles are
half squares and pairs are products, as in measured covariances. For every size: seconds, gap between answer and bound, and how
much worse the answer of the sum alone is.
"""

from __future__ import annotations

import argparse
import time
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from benchmarks.synthetic import Inputs, synthetic
from puzzledsl.ir.nodes import CpSat, ScoreTerm
from puzzledsl.ir.tables import PairwiseTerm, ScoreTable
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.solve import solve_search
from puzzledsl.search.tables import tables_of

Floats = NDArray[np.float64]
WIDTH = 1024  # of a change of the logits
ALIKE = 0.1  # share of a change that all have in common: changes of one model are correlated
SIZES = (8, 16, 32, 80)
SECONDS = 60


def gram_scores(changes: Floats) -> tuple[Floats, Floats]:
    """Half of each change's square, and the products of every two."""
    gram = changes @ changes.T
    return np.diag(gram) / 2, gram


def paired(layers: int = 80, attention: int = 6, ffn: int = 9, seed: int = 0) -> Inputs:
    """`synthetic`, with the score of sub-blocks and pairwise terms between all of them."""
    program, costs, _ = synthetic(layers, attention, ffn, seed)
    rng = np.random.default_rng([seed, layers])
    common = rng.normal(size=WIDTH)
    places: list[tuple[int, str, str]] = []
    changes: list[Floats] = []
    for layer, choice in enumerate(program.spaces["wide"].layers):
        for part, names in (
            ("attention", [a.name for a in choice.attention]),
            ("ffn", [f.name for f in choice.ffn]),
        ):
            own = rng.normal(size=WIDTH) * (1 - ALIKE) + common * ALIKE
            scale = np.exp(rng.normal(-3.2, 0.9))
            for rank, name in enumerate(names[1:], start=1):
                size = scale * (rank / (len(names) - 1)) ** 1.2
                places.append((layer, part, name))
                changes.append(size * (own + 0.25 * rng.normal(size=WIDTH)))
    single, gram = gram_scores(np.array(changes))
    tables: dict[str, list[dict[str, float]]] = {p: [{} for _ in range(layers)] for p in ("attention", "ffn")}
    for (layer, part, name), value in zip(places, single.tolist(), strict=True):
        tables[part][layer][name] = value
    terms = tuple(
        PairwiseTerm.model_validate(
            {
                "layer": one[0], "sub_block": one[1], "name": one[2],
                "other_layer": other[0], "other_sub_block": other[1], "other_name": other[2],
                "value": float(gram[i, j]),
            }
        )
        for i, one in enumerate(places)
        for j, other in enumerate(places[i + 1 :], start=i + 1)
        if one[:2] != other[:2]
    )  # fmt: skip
    table = ScoreTable(
        score="kl", metric="kl_divergence", samples=4096,
        attention=tuple(tables["attention"]), ffn=tuple(tables["ffn"]), pairwise=terms,
    )  # fmt: skip
    search = program.searches["best"].model_copy(update={"solver": CpSat(time_s=Fraction(SECONDS))})
    return program.model_copy(update={"searches": {"best": search}}), costs, {"kl": table}


def row(layers: int, seed: int) -> str:
    """One measurement."""
    program, costs, scores = paired(layers, seed=seed)
    began = time.process_time()
    result = solve_search(program, "best", costs, scores)
    seconds = time.process_time() - began
    plain = {"kl": scores["kl"].model_copy(update={"pairwise": ()})}
    first = solve_search(program, "best", costs, plain).solutions[0]
    batches = {name: first.batches[name] for name in first.batches}
    other = Child(tables_of(program, "best", costs, scores), first.layers, batches).term(
        ScoreTerm(score="kl")
    )
    worse = float(other) / result.objective if result.objective else float("nan")
    terms = len(scores["kl"].pairwise)
    gap = float("nan") if result.gap is None else result.gap
    return (
        f"{layers:3} x 54, seed {seed}: {terms:7} terms  {seconds:7.2f} s  {result.status:<8} {result.objective:.6g}"
        f"  gap {gap:.2e}  the sum's answer is {worse:.4f}x"
    )


def main() -> None:
    """Print all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--layers", type=int, nargs="*", default=SIZES)
    options = parser.parse_args()
    for layers in options.layers:
        for seed in range(options.seeds):
            print(row(layers, seed), flush=True)


if __name__ == "__main__":
    main()
