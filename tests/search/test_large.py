"""A model of eighty layers with 54 choices each, to the proven optimum, also under traffic."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks.synthetic import Inputs, synthetic, with_search
from puzzledsl.costs.table import cost_table
from puzzledsl.ir.nodes import CpSat, Program
from puzzledsl.ir.tables import SearchResult
from puzzledsl.search.infeasible.verdicts import no_answer
from puzzledsl.search.solve import solve_search
from tests.search.test_traffic import read


def answer(inputs: Inputs, **search: Any) -> SearchResult:
    program, costs, scores = with_search(inputs, **search)
    return solve_search(program, "best", costs, scores)


def test_eighty_layers_are_solved_to_the_optimum_in_seconds() -> None:
    inputs = synthetic(seed=5, speedup=Fraction(2))
    result = answer(inputs, solver=CpSat(time_s=Fraction(30)), solutions=3, apart=3)
    assert result.status == "optimal"
    assert result.gap is not None and result.gap < 1e-12
    objectives = [s.objective for s in result.solutions]
    assert len(objectives) == 3 and objectives == sorted(objectives)


LARGE = """\
use "std/hardware.pzl" (h100_sxm)
use "std/parents.pzl" (llama3_1_70b)
parent p = hf("nowhere", shape: llama3_1_70b)
space wide of p {{
  attention = gqa(kv_heads: 8 | 4 | 2 | 1) | linear | noop
  ffn = mlp(width: 100% | 87% | 75% | 50% | 25% | 20% | 10%, round: 256) | linear | noop
}}
hardware h100 = h100_sxm(memory: 80GiB, dtype: fp8, kv_cache: fp8)
scenario busy on h100 = traffic({rate} req/s, 1024 -> 256)
score kl of wide = table("kl.csv")
search s of wide {{ minimize kl, {body} }}
"""


def large(folder: Path, rate: float, body: str) -> tuple[Program, SearchResult]:
    program = read(folder, LARGE.format(rate=rate, body=body))
    _, _, made = synthetic(seed=0)
    kl = next(iter(made.values())).model_copy(update={"score": "kl"})
    began = process_time()
    found = solve_search(program, "s", cost_table(program, "wide"), {"kl": kl})
    assert process_time() - began < 5
    return program, found


def test_a_rate_that_nobody_sustains_is_said_with_the_best_reachable(tmp_path: Path) -> None:
    program, found = large(tmp_path, 30, "require busy.tpot <= 40ms, require kl <= 1")
    assert found.status == "infeasible"
    assert [item.text for item in found.conflict] == ["kl", "busy.max_rate"]
    problem = no_answer(program, found)
    assert problem is not None
    (beside,) = problem.secondary
    assert beside.span.line == 9 and re.fullmatch(r"best with the other: \d+\.?\d* req/s", beside.text)
