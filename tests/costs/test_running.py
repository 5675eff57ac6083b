"""Prices, powers and overheads that are not known: what the user states, and what a profile cannot say."""

from fractions import Fraction
from pathlib import Path

import pytest

from puzzledsl.checker.check import Checked, check
from puzzledsl.costs.metrics import metrics_of
from puzzledsl.costs.table import cost_table, with_running_costs
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import LayerAssignment

PROGRAM = """\
use "std/hardware.pzl" (h100_sxm, rtx4090)
parent p = shape(family: llama, layers: 4, hidden: 512, heads: 8, kv_heads: 4, head_dim: 64, intermediate: 1536, vocab: 1000)
space w of p { attention = parent | noop, ffn = parent | mlp(width: 50%) | noop }
hardware rented of h100_sxm { price = 2.5 USD/h, power = 700W, gpus = 2 }
hardware card of rtx4090 { power = 0.45kW }
scenario talk on rented = batch(8, 64 -> 128)
scenario home on card = batch(1, 64 -> 128)
"""
NOOP = LayerAssignment(attention="noop", ffn="mlp768")


def answer(folder: Path, more: str = "") -> Checked:
    path = folder / "priced.pzl"
    path.write_text(PROGRAM + more)
    return check(path, {})


def test_money_and_energy_are_those_of_a_generated_token(tmp_path):
    program = answer(tmp_path).program
    table = cost_table(program, "w")
    for scenario, usd_per_h, watts in (("talk", 2 * Fraction("2.5"), 1400), ("home", None, 450)):
        (costs,) = table.scenarios[scenario]
        found = metrics_of(costs, [NOOP] * 4)
        seconds = 1 / found["throughput"]
        assert found["joules_per_tok"] == watts * seconds
        assert found.get("cost_per_mtok") == (usd_per_h and 10**6 * usd_per_h / 3600 * seconds)


SEARCH = (
    "scenario many on rented = batch(1 | 2, 64 -> 128)\nsearch s of w {{ maximize params, require {} }}\n"
)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (SEARCH.format("home.cost_per_mtok <= 1USD"), "E1809"),
        (SEARCH.format("talk.cost_per_mtok <= 1J"), "E0301"),
        (SEARCH.format("talk.joules_per_tok <= 2USD"), "E0301"),
        (SEARCH.format("many.cost_per_mtok <= 1USD"), "E1809"),
        ("hardware odd of h100_sxm { price = 700W }\n", "E0303"),
    ],
)
def test_what_is_not_stated_is_refused(tmp_path, more, code):
    assert [d.code for d in answer(tmp_path, more).diagnostics if d.severity == "error"] == [code]


def test_prices_of_measured_hardware_change_no_measurement(tmp_path):
    more = (
        "hardware here = measured(device: cpu, price: 0.36 USD/h)\nscenario own on here = batch(2, 8 -> 4)\n"
    )
    program = answer(tmp_path, more).program
    spec = program.hardware["here"].spec
    assert isinstance(spec, nodes.MeasuredHardware) and spec.usd_per_s == Fraction(1, 10**4)
    table = cost_table(program, "w")
    as_measured = table.model_copy(update={"scenarios": {"own": table.scenarios["home"]}})
    (costs,) = with_running_costs(program, as_measured).scenarios["own"]
    assert costs.usd_per_s == Fraction(1, 10**4)
