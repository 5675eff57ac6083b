"""Hardware and scenarios."""

from fractions import Fraction
from pathlib import Path

import pytest

from puzzledsl.costs.table import cost_table
from puzzledsl.ir import nodes
from puzzledsl.ir.metric_records import TERMS
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.tables import PARENT, tables_of
from tests.language.rules import CARD, codes, program


@pytest.mark.states("hardware.running")
def test_a_price_is_a_multiple_of_the_latency(tmp_path: Path) -> None:
    text = (
        "hardware a = measured(device: cpu, price: 2.5 USD/h)\nscenario x on a = batch(4, 128 -> 64)\n"
        "search z of w { maximize params, require x.cost_per_mtok <= 1USD }"
    )
    (required,) = program(tmp_path, text).searches["z"].requirements
    assert isinstance(required, nodes.LinearRequirement)
    (term,) = required.left.terms
    assert term.coefficient == 10**6 * Fraction(5, 7200) / (4 * 64)


@pytest.mark.states("scenario.per-gpu")
def test_figures_of_one_gpu_and_of_all(tmp_path: Path) -> None:
    text = (
        CARD
        + "hardware g4 = g(gpus: 4)\nscenario one on g = batch(4, 8 -> 8)\nscenario four on g4 = batch(4, 8 -> 8)\n"
    )
    goals = " + ".join(f"0 * {s}.{m}" for s in ("one", "four") for m in ("memory", "weights"))
    found = program(tmp_path, text + f"search s of w {{\n minimize one.memory + four.memory + {goals}\n}}")
    child = Child(tables_of(found, "s", cost_table(found, "w"), {}), (PARENT,) * 4, {"one": 4, "four": 4})
    one, four = (
        {m: child.term(nodes.MetricTerm.model_validate({"scenario": s, "metric": m})) for m in TERMS}
        for s in ("one", "four")
    )
    assert four["weights"] < one["weights"] and four["kv_cache"] < one["kv_cache"]
    assert four["flops"] == one["flops"]
    assert four["throughput"] == 4 * 8 / four["latency"]


@pytest.mark.states("traffic.lengths")
def test_lengths_of_requests_are_a_files(tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_text('{"prompt": 100, "output": 7}\n\n{"prompt": 201, "output": 10, "user": "x"}\n', "utf-8")
    text = 'scenario busy on h = traffic(2 req/s, lengths: "requests.jsonl", at_most: 5)\nassert busy.prompt == 151 and busy.output == 9'
    busy = program(tmp_path, text).scenarios["busy"]
    assert busy.traffic is not None and busy.traffic.requests == ((100, 7), (201, 10))
    assert busy.batches == (1, 2, 3, 4, 5)
    evenly = "scenario busy on h = traffic(2 req/s, (64..190) -> (1..3))\nassert busy.prompt == 127 and busy.output == 2"
    spread = program(tmp_path, evenly).scenarios["busy"].traffic
    assert spread is not None and len({*spread.requests}) == 64
    assert [(min(side), max(side)) for side in zip(*spread.requests, strict=True)] == [(64, 190), (1, 3)]
    assert codes(tmp_path, "scenario busy on h = traffic(2 req/s, (64..8) -> 3)") == "E0304"
    for wrong in ("", "[]", '{"prompt": 1}', '{"prompt": 0, "output": 3}', '{"prompt": 2.5, "output": 3}'):
        file.write_text(wrong, "utf-8")
        assert codes(tmp_path, text) == "E0303"
