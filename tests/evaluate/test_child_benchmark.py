"""`benchmarks.child`: children of every method, judged alike, and none made twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import child, refine_choices
from benchmarks.child_judge import Judge, ratio
from benchmarks.child_made import Bench
from benchmarks.child_methods import METHODS, SAMPLES, Question, Refined, parse
from puzzledsl.ir.nodes import LayerChoice
from puzzledsl.models.families.load import load_parent
from puzzledsl.refining import proposals
from tests.pipeline.test_run import pzl
from tests.pipeline.tiny_program import write_tiny_program
from tests.search.instances import ATTENTION, FFN, Instance, chat, measured, plain_instance, require


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny program with its pieces made and scored, whose speed-up can be set."""
    path = write_tiny_program(tmp_path_factory.mktemp("child"))
    (path.parent / "data").mkdir()
    (path.parent / "items.jsonl").rename(path.parent / "data" / "items.jsonl")
    text = path.read_text().replace(">= 1.2x", ">= speedup").replace('"items.jsonl"', '"data/items.jsonl"')
    path.write_text(f'param speedup: Ratio = 1.2x\ndata heldout = text("corpus.txt")\n{text}')
    result = pzl("run", path, "--until", "score")
    assert result.returncode == 0, result.stderr
    return path


def table(program: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    """Run the command."""
    settings = (
        f"--program {program} --out {out} --work {out.parent / 'work'} --speeds 1.2 --items 6 --heldout 128"
    )
    monkeypatch.setattr(
        "sys.argv", ["child", *settings.split(), "--task-tokens", "64", "--tokens", "128", *more]
    )
    child.main()


def test_a_row_for_each_method_and_none_made_twice(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "child.jsonl"
    methods = ("--methods", "searched", "block_influence", "angular_run", "uniform_width", "drop1+searched")
    table(program, out, monkeypatch, *methods)
    first = capsys.readouterr().out
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [r["method"] for r in records] == list(methods[1:])
    for record in records:
        assert record["kl"]["value"] > 0 and record["speed"] >= 1.2
        assert set(record["kept"]) == {"items", "pooled"}
    by_method = {r["method"]: r["layers"] for r in records}
    assert set(by_method["block_influence"]) == {"parent/parent", "noop/noop"}
    assert "noop/noop" in by_method["drop1+searched"]
    assert len(set(by_method["uniform_width"])) == 1

    out.write_text("".join(out.read_text().splitlines(keepends=True)[:-1]) + '{"key": "torn')
    table(program, out, monkeypatch, *methods)
    again = capsys.readouterr()
    assert again.err.count("…") == 1
    assert _without_seconds(again.out) == _without_seconds(first)


def _without_seconds(text: str) -> list[str]:
    return [line.rsplit("|", 2)[0] for line in text.splitlines()]


def test_measured_children_of_both_kinds(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Chosen by what was measured in this run: figures of a run before would take no CPU time."""
    figures = sorted((program.parent / "build" / "scores" / "figures").iterdir())
    methods = ("searched", "refined3", "refined_plain3", "evolved3", "evolved_plain3")
    out = tmp_path / "child.jsonl"
    table(program, out, monkeypatch, "--methods", *methods)
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "1.2x" in line]
    searched, *refined = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row[0].strip("| ") for row in rows] == list(methods)
    assert searched["predicted"] == searched["objective"]
    for record, row in zip(refined, rows[1:], strict=True):
        children = record["children"]
        assert record["method"] in methods and 2 <= len(children) <= 3
        assert children[0]["origin"] == "optimum"
        assert record["measured"] == min(child["measured"] for child in children)
        assert row[5] == f"{record['predicted']:.3f}" and record["speed"] >= 1.2
    healed, plain, evolved, evolved_plain = refined
    assert healed["children"][0]["measured"] == evolved["children"][0]["measured"] > 0
    assert plain["children"][0]["measured"] == evolved_plain["children"][0]["measured"] > 0
    assert healed["children"][0]["measured"] != plain["children"][0]["measured"]
    assert {child["origin"] for child in evolved["children"][1:]} == {"mutated"}
    assert healed["predicted"] == pytest.approx(healed["measured"], rel=0.2), "refitted to it"
    if healed["model_optimum"] == healed["measured"]:
        assert healed["predicted"] == pytest.approx(healed["model_prediction"])
    assert evolved["predicted"] == pytest.approx(evolved["objective"])
    assert sorted((program.parent / "build" / "scores" / "figures").iterdir()) == figures
    assert not any((tmp_path / "work").iterdir())


def test_an_uptrained_child_has_a_row_too(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(program, tmp_path / "c.jsonl", monkeypatch, "--methods", "angular_run", "--uptrain", "256")
    (record,) = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    assert record["uptrain"] == 256 and record["kl"]["value"] > 0


@pytest.mark.parametrize("shots", [0, 2])
def test_the_parent_keeps_all(program: Path, tmp_path: Path, shots: int) -> None:
    bench = Bench(program, None, None, tmp_path)
    judge = Judge(bench, items=6, heldout=128, task_tokens=64, shots=shots)
    assert ("2 shots" in judge.title()) == bool(shots)
    figures = judge.judged(load_parent(bench.parent_dir))
    assert figures["kl"]["value"] == pytest.approx(0, abs=1e-6)
    assert figures["kl_tasks"]["value"] == pytest.approx(0, abs=1e-6)
    assert figures["kept"]["pooled"] in (
        None,
        {"value": 1.0, "stderr": 0.0},
    )  # of few items it may be at chance


def test_what_is_kept_is_a_ratio_of_paired_means() -> None:
    parent = torch.tensor([0.75, 0.75, -0.25, 0.75], dtype=torch.float64)
    assert ratio(parent, parent) == {"value": 1.0, "stderr": 0.0}
    assert ratio(-parent, -parent) is None
    half = ratio(torch.tensor([0.75, -0.25, -0.25, 0.75], dtype=torch.float64), parent)
    assert half is not None and half["value"] == pytest.approx(0.5) and half["stderr"] > 0


def test_what_refining_is_made_of(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row has a figure, the constants are as before, and a second run makes nothing again."""
    asked = ["--program", str(program), "--out", str(tmp_path / "r.jsonl"), "--work", str(tmp_path / "work")]
    sizes = ["--speeds", "1.1", "--seeds", "1", "--children", "2", "--tokens", "128"]
    monkeypatch.setattr(refine_choices, "VARIANTS", dict(list(refine_choices.VARIANTS.items())[:2]))
    monkeypatch.setattr("sys.argv", ["refine_choices", *asked, *sizes])
    monkeypatch.setattr(refine_choices, "HELDOUT", 128)
    before = proposals.SPREAD
    refine_choices.main()
    lines = (tmp_path / "r.jsonl").read_text()
    assert (
        before == proposals.SPREAD and len(lines.splitlines()) == 3
    )  # two rows, and the optimum that both are a share of
    refine_choices.main()
    assert (tmp_path / "r.jsonl").read_text() == lines


def question() -> Question:
    limit = require(chat("latency"), "<=", ratio="3/5")
    instance: Instance = measured(
        plain_instance((LayerChoice(attention=ATTENTION, ffn=FFN),) * 6, requirements=(limit,))
    )
    return Question(instance.program, instance.costs, instance.scores)


def test_drops_then_the_rest_is_searched() -> None:
    asked = question()
    influence = asked.scores["kl"].influence
    assert influence is not None
    order = sorted(range(6), key=lambda i: (influence.layers[i], i))

    def answer(name: str) -> tuple[set[int], float]:
        method = parse(name)
        assert method is not None and not isinstance(method, Refined)
        (found,) = method(asked).solutions
        gone = {i for i, c in enumerate(found.layers) if (c.attention, c.ffn) == ("noop", "noop")}
        return gone, found.objective

    alone, objective = answer("block_influence")
    assert answer("drop0+searched") == answer("searched")
    assert set(order[:1]) <= answer("drop1+searched")[0]
    assert answer("searched")[1] <= answer("drop1+searched")[1] <= objective
    assert answer("drop6+searched")[0] >= alone, "no more than will do"
    assert len(answer("run2+searched")[0]) >= 2


def test_names_of_methods() -> None:
    assert all(parse(name) is not None for name in METHODS)
    assert parse("drop3") is None and parse("evolution") is None
    assert parse("refined24") == Refined("measured", 24, 4096)
    assert parse("evolved_plain240") == Refined("evolutionary", 240, 0)
    assert parse("evopress12") == Refined("evolutionary", 12, 4096, "block_influence")
    assert parse("evouniform12") == Refined("evolutionary", 12, 4096, "uniform")
    assert parse("refined") is parse("refined0") is parse("evolved_24") is None


def test_a_refined_question_measures_on_the_text_of_its_score() -> None:
    program = Refined("evolutionary", 5, 0).program(question())
    refine = program.searches["best"].refine
    assert refine is not None and (refine.children, refine.samples, refine.data) == (5, SAMPLES, None)
