"""Answers, frontiers, regrets and metrics of a program are those of the commands, figure for figure."""

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import puzzledsl as pzl
from puzzledsl.cli.main import run
from puzzledsl.ir.tables import LayerAssignment
from tests.documents import ROOT

PARENT = [("parent", "parent")] * 6


def printed(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> Any:
    """The JSON document that a command prints."""
    capsys.readouterr()
    assert run([*map(str, arguments), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_an_answer_is_the_commands(
    program: pzl.Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = program.solve("best")
    (found,) = printed(capsys, 0, "solve", program.file, "best", "-o", tmp_path / "other")
    (solution,) = found["solutions"]
    for key in ("search", "status", "objective", "bound", "gap"):
        assert getattr(answer, key) == found[key]
    assert [layer.model_dump() for layer in answer.layers] == solution["layers"]
    assert answer.metrics == solution["metrics"]
    assert answer.conflict == ()
    assert answer.parent_metrics["chat.throughput"] * 1.3 <= answer.metrics["chat.throughput"]


def test_an_answer_to_the_same_inputs_is_read_back(
    program: pzl.Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = program.solve("best")
    monkeypatch.setattr("puzzledsl.search.solve.solve_search", lambda *_: pytest.fail("solved again"))
    assert program.solve("best") == first


def test_a_changed_table_is_solved_again(program: pzl.Program) -> None:
    before = program.solve("best").objective
    table = program.file.parent / "kl.csv"
    assert before is not None and program.metrics("best", program.solve("best").layers).objective
    table.write_text(re.sub(r"0\.(\d+)", lambda score: str(2 * float(score[0])), table.read_text()))
    answer = program.solve("best")
    assert answer.objective == 2 * before
    assert float(program.metrics("best", answer.layers).objective) == answer.objective


def test_a_search_without_a_solution_is_an_answer(
    program: pzl.Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = program.solve("none")
    (found,) = printed(capsys, 1, "solve", program.file, "none", "-o", tmp_path / "other")
    assert answer.status == found["status"] == "infeasible"
    assert answer.objective is None and answer.layers == () and answer.metrics == {}
    conflict = [{"line": c.line, "text": c.text, "reachable": c.reachable} for c in answer.conflict]
    assert conflict == found["conflict"] and len(conflict) == 2
    assert answer.relaxation is not None and answer.relaxation.changes


def test_a_search_that_lacks_its_scores_says_so(tmp_path: Path) -> None:
    program = pzl.load(ROOT / "examples" / "coupled.pzl", build=tmp_path)
    parent = [("parent", "parent")] * 30
    for ask in (program.solve, program.why, lambda name: program.metrics(name, parent)):
        with pytest.raises(pzl.DiagnosticError) as caught:
            ask("first")
        assert caught.value.diagnostics[0].code == "E0610"


def test_a_narrowed_space_is_known_once_its_search_is_solved(program: pzl.Program) -> None:
    with pytest.raises(pzl.DiagnosticError) as caught:
        program.space("narrow")
    assert caught.value.diagnostics[0].code == "E0603"
    layers = program.solve("best").layers
    space = program.space("narrow")
    assert [len(choice.ffn) for choice in space.space.layers] == [1 + (x.ffn != "parent") for x in layers]
    assert space.log10_children < program.space("wide").log10_children


def test_a_place_or_a_solution_that_is_not_there_is_an_error(program: pzl.Program) -> None:
    with pytest.raises(ValueError, match="layers are 0 to 5"):
        program.why("best", layer=6)
    with pytest.raises(ValueError, match="without a layer"):
        program.why("best", sub_block="ffn")
    with pytest.raises(pzl.DiagnosticError) as caught:
        program.why("none")
    assert caught.value.diagnostics[0].code == "E0501"


def test_the_metrics_of_the_answer_are_the_answers(program: pzl.Program) -> None:
    answer = program.solve("best")
    child = program.metrics("best", answer.layers)
    assert child.feasible and float(child.objective) == answer.objective
    figures = {name: float(value) for name, value in child.metrics.items()}
    assert figures == {n: v for n, v in answer.metrics.items() if not n.endswith(".batch")}
    assert child.batches == {"chat": int(answer.metrics["chat.batch"])}
    assert all(isinstance(value, Fraction) for value in child.metrics.values())


def test_the_parent_breaks_what_it_breaks(program: pzl.Program) -> None:
    child = program.metrics("best", PARENT)
    fast, first = child.requirements
    assert child.objective == 0 and not child.feasible
    assert (fast.line, fast.holds, first.holds, first.value) == (14, False, True, None)
    assert fast.value is not None and fast.bound == fast.value * Fraction(13, 10)
    assert fast.text == "chat.throughput >= speedup"


def test_exhaustion_finds_what_the_solver_proves(program: pzl.Program) -> None:
    """One layer's choices around the answer: none that is feasible is better, and some are not feasible."""
    answer = program.solve("best")
    assert answer.objective is not None
    tried = []
    for layer, choice in enumerate(program.space("wide").space.layers):
        for attention in choice.attention:
            for ffn in choice.ffn:
                layers = list(answer.layers)
                layers[layer] = LayerAssignment(attention=attention.name, ffn=ffn.name)
                tried.append(program.metrics("best", layers))
    assert min(child.objective for child in tried if child.feasible) == Fraction(str(answer.objective))
    assert any(child.objective < Fraction(str(answer.objective)) for child in tried if not child.feasible)


@pytest.mark.parametrize(
    ("layers", "batches", "said"),
    [
        (PARENT[:-1], None, "5 layers are chosen, the parent has 6"),
        (
            [*PARENT[:-1], ("gqa9", "parent")],
            None,
            "5 may not have attention 'gqa9'; it may have parent, gqa2",
        ),
        (PARENT, {"chat": 33}, "'chat' has no batch 33"),
        (PARENT, {"chatt": 32}, "mentions no scenario 'chatt'; it mentions chat"),
    ],
)
def test_what_no_child_can_have_is_a_value_error(
    program: pzl.Program, layers: list[tuple[str, str]], batches: dict[str, int] | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        program.metrics("best", layers, batches)
