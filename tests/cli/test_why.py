"""`pzl why` as a user or a script meets it."""

import json
from pathlib import Path

import pytest

from puzzledsl.cli.main import run
from puzzledsl.ir.tables import WhyResult
from tests.cases import cases, more
from tests.cli.conftest import Pzl
from tests.cli.test_solving import program

__all__ = ["program"]  # a fixture


def layers_of(out: str) -> list[list[str]]:
    """The words of the lines of the layers."""
    table = out.split("\n\n")[1].splitlines()
    assert table[0].split() == "layer attention next best regret FFN next best regret".split()
    return [line.split() for line in table[1:]]


def test_the_whole_search_has_a_line_a_layer_and_its_margins(program: Path, pzl: Pzl) -> None:
    out, err = pzl("why", program, "best")
    assert err == "" and "\x1b" not in out
    assert out.startswith("search best: minimize kl, optimum 0.6 (proven)")
    rows = layers_of(out)
    assert [row[0] for row in rows] == list("012345")
    assert "  line 13: chat.throughput >= 1.3x" in out and "without it saves 0.6" in out
    found = WhyResult.from_json(pzl("why", program, "best", "--json")[0])
    assert len(found.sub_blocks) == 12 and found.proven


@pytest.mark.drawn
@pytest.mark.parametrize(
    "rules",
    [
        "require params <= 70% * llama.params\n  require chat.throughput >= 1.3x",
        *more(
            "require params <= 70% * llama.params\n  for i in 1..5 { require layers[i].ffn.width <= layers[i - 1].ffn.width }"
        ),
    ],
)
def test_a_regret_is_that_of_a_program_that_requires_the_alternative(
    program: Path, pzl: Pzl, rules: str
) -> None:
    head = program.read_text()[: program.read_text().index("search best")]
    alternatives = {"attention": ("parent", "gqa2", "noop"), "ffn": ("parent", "mlp2048", "noop")}
    pins = [
        (layer, part, name) for layer in range(6) for part, names in alternatives.items() for name in names
    ]
    asked = pins[:: len(pins) // cases(len(pins))]
    written = {"gqa2": "gqa(kv_heads: 2)", "mlp2048": "mlp(width: 2048)"}
    searches = [f"search best of wide {{\n  minimize kl\n  {rules}\n}}"] + [
        f"search pin{number} of wide {{\n  minimize kl\n  {rules}\n"
        f"  require layers[{layer}].{sub_block} is {written.get(name, name)}\n}}"
        for number, (layer, sub_block, name) in enumerate(asked)
    ]
    program.write_text(head + "\n".join(searches) + "\n")
    solved = pzl("solve", program, "--json", code=None).out  # some alternatives may have no child
    best, *others = (each["objective"] for each in json.loads(solved))
    found = json.loads(pzl("why", program, "best", "--json")[0])
    regrets = {
        (s["layer"], s["sub_block"], r["alternative"]): (r["at_least"], r["at_most"])
        for s in found["sub_blocks"]
        for r in s["regrets"]
    }
    assert [*regrets] == pins and best > 0
    for pin, value in zip(asked, others, strict=True):
        wanted = None if value is None else pytest.approx(value - best, abs=1e-9)
        assert regrets[pin] == (wanted, wanted), pin


@pytest.mark.parametrize(
    ("place", "sub_blocks"),
    [("layers[2].ffn", ["ffn"]), ("2", ["attention", "ffn"]), (" layers[ 2 ] . attention", ["attention"])],
)
def test_a_place_lists_its_alternatives_and_writes_nothing(
    program: Path, pzl: Pzl, place: str, sub_blocks: list[str]
) -> None:
    out, _ = pzl("why", program, "best", place)
    for sub_block in sub_blocks:
        assert f"layers[2].{sub_block}: " in out
    found = json.loads(pzl("why", program, "best", place, "--json")[0])
    assert [s["sub_block"] for s in found["sub_blocks"]] == sub_blocks and found["margins"] == []


@pytest.mark.parametrize("place", ["layer2", "layers[2].mlp", "6", "-1", ""])
def test_what_is_no_place_is_a_usage_error(program: Path, pzl: Pzl, place: str) -> None:
    out, err = pzl("why", program, "best", "--", place, code=2)
    assert out == "" and "PLACE" in err


def test_a_search_without_a_solution_says_what_conflicts(program: Path, pzl: Pzl) -> None:
    out, err = pzl("why", program, "none", code=1)
    assert out == "" and "E0501" in err
    _, err = pzl("why", program, "bets", code=1)
    assert "did you mean `best`?" in err


def test_no_time_at_all_is_said(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["why", str(program), "best", "--time", "0"])
    out, err = capsys.readouterr()
    if code == 0:  # an answer needs no time
        assert "(the best found, not proven)" in out and "not computed in the time given" in out
    else:
        assert code == 1 and "E0507" in err and "CP-SAT in 0 s" in err and "`--time 1`" in err


def test_the_only_search_needs_no_name(program: Path, pzl: Pzl) -> None:
    for place in ([], ["layers[2]"]):
        assert "which of the searches? best, none" in pzl("why", program, *place, code=2)[1]
    text = program.read_text()
    program.write_text(text[: text.index("search none")])
    assert pzl("why", program)[0].startswith("search best: ")
    assert "layers[2].ffn: " in pzl("why", program, "layers[2].ffn")[0]


def test_a_requirement_that_cannot_be_tightened(program: Path, pzl: Pzl) -> None:
    text = program.read_text().replace(
        "require chat.throughput >= 1.3x because", "require count(ffn is noop) >= 6 because"
    )
    program.write_text(text)
    out, _ = pzl("why", program, "best")
    assert "1 tighter cannot be met; 1 looser saves " in out
    rows = layers_of(out)
    assert all(row[4:] == ["noop", "parent", "cannot", "be", "met"] for row in rows)
