"""Hardware and scenarios."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from puzzledsl.costs.table import cost_table
from puzzledsl.ir import nodes
from puzzledsl.ir.metric_records import TERMS
from puzzledsl.search.problem.metrics import Child
from puzzledsl.search.tables import PARENT, tables_of
from tests.language.rules import CARD, codes, program


@pytest.mark.states(
    "hardware.profile", "hardware.of", "hardware.literal", "hardware.measured", "hardware.table"
)
def test_hardware(tmp_path: Path) -> None:
    text = (
        'use "std/hardware.pzl" (h100_sxm)\nhardware a = h100_sxm\nhardware b = h100_sxm(gpus: 4)\n'
        "hardware c of h100_sxm { gpus = 4 }\nhardware d { memory = 8GB, bandwidth = 1TB/s, peak { bf16 = 1TFLOP/s } }\n"
        'hardware e = measured(device: cuda, dtype: bf16, gpus: 1, memory: 8GB)\nhardware f = table("c.csv")\n'
    )
    found = {name: each.spec for name, each in program(tmp_path, text).hardware.items()}
    assert isinstance(found["a"], nodes.RooflineHardware)
    assert found["b"] == found["c"] == found["a"].model_copy(update={"gpus": 4})
    assert isinstance(found["d"], nodes.RooflineHardware)
    assert found["d"].memory_bytes == 8 * 10**9
    assert found["e"] == nodes.MeasuredHardware(device="cuda", dtype="bf16", gpus=1, memory_bytes=8 * 10**9)
    assert found["f"] == nodes.TableHardware(path="c.csv")


@pytest.mark.states("hardware.engine")
def test_engines(tmp_path: Path) -> None:
    def measured(arguments: str) -> nodes.MeasuredHardware:
        spec = program(tmp_path, f"hardware e = measured({arguments})").hardware["e"].spec
        assert isinstance(spec, nodes.MeasuredHardware)
        return spec

    first = {"torch": "fp32", "llama_cpp": "f16", "vllm": "bf16", "mlx": "bf16"}
    for engine, dtype in first.items():
        assert measured(f"engine: {engine}") == nodes.MeasuredHardware(engine=engine, dtype=dtype)
    found = measured("engine: llama_cpp, dtype: q8_0, threads: 4")
    assert (found.dtype, found.threads) == ("q8_0", 4)
    for known, other in (("f32", "fp32"), ("f16", "fp16"), ("bf16", "int8")):
        assert measured(f"engine: llama_cpp, dtype: {known}").dtype == known
        assert codes(tmp_path, f"hardware e = measured(engine: llama_cpp, dtype: {other})").startswith("E")
    assert codes(tmp_path, "hardware e = measured(device: cpu, threads: 2)") == "E1808"
    before = nodes.MeasuredHardware(device="cuda", dtype="bf16")
    assert set(before.model_dump()) == {"kind", "device", "dtype", "gpus", "memory_bytes"}


@pytest.mark.states("hardware.running")
def test_price_and_power(tmp_path: Path) -> None:
    text = (
        'use "std/hardware.pzl" (h100_sxm)\nhardware a of h100_sxm { price = 2.5 USD/h, power = 700W }\n'
        "hardware b of a { gpus = 2 }\nhardware c = measured(device: cpu, price: 0.36 USD/h)\n"
    )
    found = {name: each.spec for name, each in program(tmp_path, text).hardware.items()}
    for name in ("a", "b"):
        spec = found[name]
        assert isinstance(spec, nodes.RooflineHardware)
        assert (spec.usd_per_s, spec.watts) == (Fraction(5, 7200), 700)
    assert isinstance(found["c"], nodes.MeasuredHardware) and found["c"].usd_per_s == Fraction(1, 10**4)
    cost = (
        text
        + "scenario x on a = batch(4, 128 -> 64)\nsearch z of w { maximize params, require x.cost_per_mtok <= 1USD }\n"
    )
    (required,) = program(tmp_path, cost).searches["z"].requirements
    assert isinstance(required, nodes.LinearRequirement)
    (term,) = required.left.terms
    assert term.coefficient == 10**6 * Fraction(5, 7200) / (4 * 64)
    assert codes(tmp_path, cost.replace("batch(4", "batch(4 | 8")) == "E1809"
    assert codes(tmp_path, cost.replace(" on a ", " on h ")) == "E1809"


@pytest.mark.states("scenario.batch", "scenario.batches", "scenario.auto")
@pytest.mark.parametrize(
    ("batch", "batches"), [("256", (256,)), ("64 | 256 | 128", (64, 128, 256)), ("auto", ())]
)
def test_scenarios(tmp_path: Path, batch: str, batches: tuple[int, ...]) -> None:
    found = program(tmp_path, f"scenario s on h = batch({batch}, 128 -> 1Ki)").scenarios["s"]
    assert (found.batches, found.prompt, found.output, found.hardware) == (batches, 128, 1024, "h")


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
    assert four["weights"] < one["weights"]
    assert four["kv_cache"] < one["kv_cache"]
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
    for wrong in (
        "",
        "[]",
        '{"prompt": 1}',
        '{"prompt": 0, "output": 3}',
        '{"prompt": 2.5, "output": 3}',
        "3",
    ):
        file.write_text(wrong, "utf-8")
        assert codes(tmp_path, text) == "E0303"
