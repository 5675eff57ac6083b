"""`pzl check` warns of bounds on metrics that no child meets, or that exclude nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from puzzledsl import load
from puzzledsl.cli.main import run
from tests.language.rules import PRELUDE

PROFILE = 'use "std/hardware.pzl" (h100_sxm)\nhardware h = h100_sxm(dtype: fp8)'
BASE = PRELUDE.replace("hardware h = measured(device: cpu, memory: 16GiB)", PROFILE)
TABLE = BASE.replace(PROFILE, 'hardware h = table("costs.csv")')
COSTS = """\
layer,attention,ffn,batch,chat.weights[bytes],chat.kv_cache[bytes],chat.ttft[ns],chat.tpot[ns]
,,,4,1000,0,1000,1000
,parent,,4,10,10,300,30
,gqa2,,4,10,8,200,20
,gqa1,,4,10,4,100,10
,linear,,4,10,0,100,10
,noop,,4,0,0,0,0
,,parent,4,10,0,300,30
,,mlp96,4,10,0,100,10
,,noop,4,0,0,0,0
"""


def told(
    folder: Path, capsys: pytest.CaptureFixture[str], bound: str, base: str = BASE
) -> list[tuple[str, str]]:
    """The codes and the help of a program's warnings of metrics, with one requirement."""
    (folder / "costs.csv").write_text(COSTS)
    file = folder / "program.pzl"
    file.write_text(f"{base}search s of w {{\n  minimize kl\n  require {bound}\n}}\n")
    assert run(["check", str(file)]) == 0
    text = capsys.readouterr().err
    found = []
    for part in text.split("warning[")[1:]:
        if part.startswith("W030"):
            help = next((line.split("help: ")[1] for line in part.splitlines() if "help: " in line), "")
            found.append((part[:5], help))
    return found


@pytest.mark.states("check.metrics")
@pytest.mark.parametrize(
    ("bound", "code"),
    [
        ("chat.memory >= 1MiB", "W0301"),
        ("chat.throughput >= 0.1x", "W0301"),
        ("chat.latency <= 2x", "W0301"),
        ("chat.latency <= 1x", "W0301"),
        ("chat.memory <= 1MiB", "W0302"),
        ("chat.throughput >= 1_000_000x", "W0302"),
        ("0.5 * chat.ttft + 64 * chat.tpot >= 1h", "W0302"),
    ],
)
def test_bounds_that_do_nothing_or_too_much_are_told(
    bound: str, code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [(found, help)] = told(tmp_path, capsys, bound)
    assert found == code
    assert help.startswith("it goes from ") and (
        " to 1x" in help or "x" not in bound or "throughput" in bound
    )


@pytest.mark.parametrize(
    "bound",
    [
        "chat.memory <= 80GiB",  # a guard
        "chat.throughput >= 1 tok/s",
        "chat.throughput >= 1.1x",
        "chat.latency < 1x",
        "kl <= 1",  # scores are known later
    ],
)
def test_guards_and_bounds_that_some_children_meet_are_not(
    bound: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(tmp_path, capsys, bound) == []


def test_a_bound_the_wrong_way_round_has_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [code for code, _ in told(tmp_path, capsys, "chat.throughput <= 1000x")] == ["W0304"]


@pytest.mark.parametrize(
    ("bound", "codes"),
    [
        ("chat.ttft >= 1us", [("W0301", "it goes from 1us to 3.4us")]),
        ("chat.ttft > 1us", []),
        ("chat.ttft < 1us", [("W0302", "it goes from 1us to 3.4us")]),
        ("chat.ttft <= 1us", []),
        ("chat.ttft <= 0.2x", [("W0302", "it goes from 0.2941x to 1x")]),
        ("chat.throughput <= 5x", [("W0304", "less")]),
        ("chat.kv_cache >= 41kB", [("W0302", "it goes from")]),
    ],
)
def test_ends_are_those_of_the_table(
    bound: str, codes: list[tuple[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four layers: 1,000 ns of the fixed part, up to 600 ns of each."""
    found = told(tmp_path, capsys, bound, TABLE)
    assert [code for code, _ in found] == [code for code, _ in codes]
    assert all(
        help.startswith(start)
        for (_, help), (code, start) in zip(found, codes, strict=True)
        if code != "W0304"
    )


BUSY = BASE + "scenario busy on h = traffic(RATE, 128 -> 64, at_most: 8)\n"


@pytest.mark.states("check.metrics")
@pytest.mark.parametrize(
    ("rate", "bound", "codes"),
    [
        ("100 req/s", "busy.p95_ttft <= 0.001us", ["W0302"]),
        ("100 req/s", "busy.tpot <= 0.000001us", ["W0302"]),
        ("100 req/s", "busy.tpot <= 1x", ["W0301"]),
        ("100 req/s", "busy.max_rate >= 0.1x", ["W0301"]),
        ("100 req/s", "busy.memory <= 80GiB", []),  # a guard
        ("100 req/s", "busy.max_rate >= 1.1x", []),
        (
            "100 req/s",
            "busy.tpot - busy.ttft <= 0.001us",
            [],
        ),  # may rise or fall with the number of sequences
        ("1_000_000_000 req/s", "busy.tpot <= 1h", ["W0302"]),  # of the rate, once
    ],
)
def test_bounds_on_traffic_are_judged_where_a_profile_says_its_costs(
    rate: str, bound: str, codes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [code for code, _ in told(tmp_path, capsys, bound, BUSY.replace("RATE", rate))] == codes


@pytest.mark.parametrize("metric", ["ttft", "tpot", "p95_ttft", "p95_tpot", "memory", "utilisation"])
@pytest.mark.parametrize("rate", ["1000 req/s", "40000 req/s"])
def test_a_bound_that_the_search_reaches_under_traffic_is_not_called_out_of_reach(
    rate: str, metric: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = BUSY.replace("RATE", rate)
    file = tmp_path / "least.pzl"
    file.write_text(f"{base}search s of w {{ minimize busy.{metric} }}\n")
    (tmp_path / "kl.csv").write_text(
        "layer,attention,ffn,kl\n,gqa1,,1\n,gqa2,,1\n,linear,,1\n,noop,,1\n,,mlp96,1\n,,noop,1\n"
    )
    least, per = (
        load(file).solve("s").metrics[f"busy.{metric}"] * 1.000001,
        2**30 if metric == "memory" else 1,
    )
    unit = {"memory": "GiB", "utilisation": ""}.get(metric, "s")
    bound = f"busy.{metric} <= {least / per:.20f}{unit}"
    assert "W0302" not in [code for code, _ in told(tmp_path, capsys, bound, base)]
