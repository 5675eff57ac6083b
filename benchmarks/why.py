"""Regrets of whole searches against solving again with each alternative fixed; and how long 80 layers of 54 pairs take.

    python -m benchmarks.why [SEARCHES [SEED]]
    python -m benchmarks.why structure [FORM ...]

Searches are of 4 to 80 layers, of every kind that benchmarks/synthetic.py and benchmarks/infeasible.py make: structured or noisy
costs, two to six requirements, counts and implications between neighbours, several batches. A line each, and one at the end.

`structure` writes searches as text with a tie, an ordering, runs or a count (structure_forms.py), and says how many regrets are
exact in time, and whether all have bounds.
"""

from __future__ import annotations

import random
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.infeasible import draw_requirements
from benchmarks.structure_checks import Loaded
from benchmarks.structure_forms import FORMS
from benchmarks.structure_runs import texts_of
from benchmarks.synthetic import Inputs, synthetic, with_search
from puzzledsl.ir.tables import Regret, WhyResult
from puzzledsl.search.answer import best_meeting_all
from puzzledsl.search.problem.instance import Effort
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.problem.problem import Builder
from puzzledsl.search.sensitivity.part import Pin, pins_of
from puzzledsl.search.sensitivity.why import pinned, why_search
from puzzledsl.search.tables import Tables, tables_of

SEARCHES = 50
CHECKED = 40  # pins of a search that are solved again
SIZES = ((4, 5, 5), (12, 6, 7), (24, 6, 9), (48, 5, 7), (80, 6, 9))
TIME_S = 60.0  # for all regrets of a search, and for each that is solved again
LARGE = 6  # searches of 80 layers that are timed
STRUCTURE = ("heads_tied", "widths_never_grow", "two_gaps", "gaps_counted")
# layers, a seed whose layers have so many pairs, the pairs, and the share of regrets that must be exact
LARGER = ((32, 0, 25, 0.95), (80, 2, 54, 0.5))


def drawn(seed: int) -> tuple[str, Inputs]:
    """A search and its kind; a seed always gives the same one."""
    rng = random.Random(seed)
    layers, attention, ffn = SIZES[seed % len(SIZES)]
    batches = (128, 256) if rng.random() < 0.25 else (256,)
    inputs = synthetic(layers, attention, ffn, seed, requirements=rng.randint(2, 6), batches=batches)
    costs = "noisy" if seed % 2 else "structured"
    kind = f"{layers} x {attention * ffn}, {costs}, {len(batches)} batch{'es' if len(batches) > 1 else ''}"
    if rng.random() < 0.5:
        for _ in range(50):
            own = with_search(inputs, requirements=draw_requirements(rng, layers))
            tables = tables_of(own[0], "best", own[1], own[2])
            if best_meeting_all(Builder(tables).all(), Effort.of(5.0)).layers is not None:
                return f"{kind}, {len(own[0].searches['best'].requirements)} requirements of every kind", own
    return f"{kind}, {len(inputs[0].searches['best'].requirements)} budgets", inputs


def checked(inputs: Inputs, seed: int) -> tuple[int, int, int, int, float, float]:
    """Counts of one search: pins, pins not exact in time, pins checked, pins with a wrong regret, CPU seconds of all regrets, and
    of one plain solve."""
    program, costs, scores = inputs
    began = time.process_time()
    result = why_search(program, "best", costs, scores, time_s=TIME_S)
    seconds = time.process_time() - began
    if not isinstance(result, WhyResult):
        raise RuntimeError(f"seed {seed}: no solution")
    tables = tables_of(program, "best", costs, scores)
    builder = Builder(tables)
    pins = pins_of(builder.columns)
    said = {(s.layer, s.sub_block, r.alternative): r for s in result.sub_blocks for r in s.regrets}
    best = _optimum(tables, builder, None)
    some = random.Random(seed).sample(pins, min(CHECKED, len(pins)))
    began = time.process_time()
    wrong = sum(
        _is_wrong(said[pin.layer, pin.sub_block, pin.alternative], best, _optimum(tables, builder, pin))
        for pin in some
    )
    left = sum(r.at_least != r.at_most for r in said.values())
    return len(pins), left, len(some), wrong, seconds, (time.process_time() - began) / len(some)


def _optimum(tables: Tables, builder: Builder, pin: Pin | None) -> Fraction | None:
    """The optimum with a pin; None where there is no child."""
    problems = builder.all().changed(lambda problem, _: replace(problem, preferences=()))
    problems = problems if pin is None else pinned(problems, pin)
    found = best_meeting_all(problems, Effort.of(TIME_S))
    if not found.proven:
        raise RuntimeError("a search was not solved in time")
    if found.layers is None:
        return None
    value = Child(tables, found.layers, found.batches).linear(tables.search.objective)
    return -value if tables.search.sense == "maximize" else value


def _is_wrong(regret: Regret, best: Fraction | None, value: Fraction | None) -> bool:
    """True where a regret contradicts the optimum solved again."""
    if value is None or best is None:
        return regret.at_most is not None
    true = float(value - best)
    if regret.at_least is None or regret.at_least > true:
        return True
    return regret.at_most is not None and regret.at_most < true


def beside_structure(form: str, layers: int, seed: int, pairs: int, target: float) -> tuple[str, bool]:
    """A line on one search as text, and whether it reaches the target."""
    with TemporaryDirectory() as folder:
        loaded = Loaded(texts_of(FORMS[form], layers, seed, TIME_S)[0], Path(folder))
    began = time.process_time()
    result = why_search(loaded.ir, "best", loaded.costs, loaded.scores, time_s=TIME_S)
    seconds = time.process_time() - began
    assert isinstance(result, WhyResult)
    regrets = [r for s in result.sub_blocks for r in s.regrets]
    exact = sum(r.at_least == r.at_most for r in regrets) / len(regrets)
    between = sum(r.at_least is not None and r.at_most is None for r in regrets)
    said = f"{exact:.0%} exact (target: {target:.0%}), {between} without an upper bound (target: 0)"
    line = f"{layers} x {pairs}, {form}: {len(regrets)} pins and margins, {seconds:.2f} s of CPU, {said}"
    return line, exact >= target and not between


def main() -> None:
    """Check, then time."""
    if sys.argv[1:2] == ["structure"]:
        found = (beside_structure(form, *size) for size in LARGER for form in sys.argv[2:] or STRUCTURE)
        reached = []
        for line, is_reached in found:
            print(line, flush=True)
            reached.append(is_reached)
        raise SystemExit(0 if all(reached) else 1)
    searches = int(sys.argv[1]) if len(sys.argv) > 1 else SEARCHES
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    all_wrong = 0
    for seed in range(first, first + searches):
        kind, inputs = drawn(seed)
        pins, left, some, wrong, seconds, plain = checked(inputs, seed)
        all_wrong += wrong
        late = f" ({left} not exact in time)" if left else ""
        said = f"{wrong} WRONG" if wrong else "none wrong"
        print(
            f"seed {seed:3d}: {kind}: {pins} pins{late} in {seconds:.2f} s of CPU; "
            f"{some} solved again, {plain * 1000:.0f} ms each: {said}",
            flush=True,
        )
    for seed in range(LARGE):
        program, costs, scores = synthetic(80, 6, 9, seed, requirements=3)
        began = time.process_time()
        result = why_search(program, "best", costs, scores, time_s=TIME_S)
        seconds = time.process_time() - began
        assert isinstance(result, WhyResult)
        exact = all(r.at_least == r.at_most for s in result.sub_blocks for r in s.regrets)
        pins = sum(len(s.regrets) for s in result.sub_blocks)
        noise = "noisy" if seed % 2 else "structured"
        said = "all exact" if exact else "NOT all exact"
        print(
            f"80 x 54, 3 requirements, {noise}, seed {seed}: {pins} pins and margins, {seconds:.2f} s of CPU, {said}"
        )
    print(f"{searches} searches, {all_wrong} regrets wrong")
    if all_wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
