"""`pzl solve` and `pzl frontier` as a user or a script meets them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.api.programs import PROGRAM as BASE
from tests.api.programs import write_program
from tests.cli.conftest import Pzl

PROGRAM = (
    BASE.replace("param speedup: Ratio = 1.3x\n", "")
    .replace(">= speedup", ">= 1.3x")
    .replace("  require layers[0].attention is parent\n", "  solutions 3 apart 1\n")
    .replace("space narrow of wide = used_by(best, top: 1)\n", "")
)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return write_program(tmp_path, PROGRAM)


def test_the_json_has_exactly_the_documented_keys(program: Path, pzl: Pzl) -> None:
    out, err = pzl("solve", program, "--json", code=1)
    found: list[dict[str, Any]] = json.loads(out)
    keys = "search status objective bound gap seconds found_by proved_by solutions conflict".split()
    assert [list(result) for result in found] == [keys, keys]
    best, none = found
    assert (best["search"], best["status"], len(best["solutions"])) == ("best", "optimal", 3)
    assert best["objective"] == best["bound"] == best["solutions"][0]["objective"]
    assert [s["objective"] for s in best["solutions"]] == sorted(s["objective"] for s in best["solutions"])
    for solution in best["solutions"]:
        assert list(solution) == ["objective", "layers", "metrics"]
        assert [list(layer) for layer in solution["layers"]] == [["attention", "ffn"]] * 6
        assert solution["metrics"]["chat.batch"] in (32, 64)
        assert solution["metrics"]["kl"] == solution["objective"]
    assert none["status"] == "infeasible" and none["objective"] is None and none["solutions"] == []
    assert [list(item) for item in none["conflict"]] == [["line", "text", "reachable"]] * 2
    assert [item["line"] for item in none["conflict"]] == [18, 19]
    assert "E0501" in err


def test_a_goal_that_is_one_metric_has_its_unit(program: Path, pzl: Pzl) -> None:
    goal = "search fast of wide { minimize chat.latency, require params >= 50% * llama.params }\n"
    program.write_text(PROGRAM + goal)
    out, _ = pzl("solve", program, "fast")
    latency = next(line.split()[1] for line in out.splitlines() if line.startswith("  chat.latency"))
    assert latency.endswith("s") and f"optimal (objective {latency}, bound {latency}, gap 0)" in out


def test_json_is_one_list_whatever_is_wrong(program: Path, pzl: Pzl) -> None:
    (program.parent / "kl.csv").unlink()
    out, err = pzl("solve", program, "--json", code=1)
    assert [(each["search"], each["status"]) for each in json.loads(out)] == [
        ("best", "error"),
        ("none", "error"),
    ]
    assert json.loads(out)[0]["diagnostics"][0]["code"] == "E0511" and "E0511" in err
    program.write_text(program.read_text().replace("chat.throughput", "chat.througput"))
    out, err = pzl("solve", program, "--json", code=1)
    [whole] = json.loads(out)
    assert (whole["search"], whole["status"]) == ("", "error")
    assert whole["diagnostics"][0]["code"] == "E0206" and "E0206" in err


def test_an_infeasible_search_says_what_would_do_and_it_does(program: Path, pzl: Pzl) -> None:
    _, err = pzl("solve", program, "none", code=1)
    assert "these 2 conflict" in err
    [advice] = [line for line in err.splitlines() if "= help: write `" in line]
    literal, line = advice.split("`")[1], int(advice.split("in line ")[1].split(":")[0])
    text = program.read_text().splitlines()
    bound = "95% * llama.params" if line == 18 else "1.6x"
    text[line - 1] = text[line - 1].replace(bound, literal)
    program.write_text("\n".join(text) + "\n")
    out, _ = pzl("solve", program, "none", "--json")
    assert json.loads(out)[0]["status"] == "optimal"


def test_a_frontier_is_a_table_and_a_csv(program: Path, pzl: Pzl) -> None:
    out, _ = pzl("frontier", program)
    assert "frontier curve: 4 of 4 points proven" in out
    head, *rows = (program.parent / "build" / "search" / "curve.csv").read_text().splitlines()
    assert head.startswith("bound:chat.throughput[tok/s],times_parent,status,objective,proven_bound,gap,")
    assert [row.split(",")[1] for row in rows] == ["1.0", "2.0", "3.0", "4.0"]


@pytest.mark.parametrize(
    ("command", "name", "meant"), [("solve", "bets", "best"), ("frontier", "curv", "curve")]
)
def test_a_misspelt_name_is_a_question(command: str, name: str, meant: str, program: Path, pzl: Pzl) -> None:
    _, err = pzl(command, program, name, code=1)
    assert f"did you mean `{meant}`?" in err


def test_points_that_are_one_child_are_said_to_be_one(program: Path, pzl: Pzl) -> None:
    text = PROGRAM.replace("1x..4x", "0.1x..1x")
    program.write_text(text.replace("  solutions 3 apart 1\n", ""))
    out, _ = pzl("frontier", program)
    assert "note: points 1 to 4 are one child; no other metric is bounded" in out
    held = "  require chat.latency <= 0.8x\n  require chat.memory <= 2x\n"
    program.write_text(text.replace("  solutions 3 apart 1\n", held))
    out, _ = pzl("frontier", program)
    pzl("solve", program, code=1)
    pzl("report", str(program))
    page = (program.parent / "build" / "report.html").read_text("utf-8")
    assert "Points 1 to 4 are one child; of the other bounds <code>chat.latency" in page
    assert (
        "note: points 1 to 4 are one child; of the other bounds `chat.latency <= 0.8x` leaves least room, "
        in out
    )
