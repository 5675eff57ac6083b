"""A whole evaluation: parent first, the same figures each time, nothing measured twice."""

import json

import pytest
import torch

from puzzledsl.alternatives.linear import NoOpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.evaluate import bench
from puzzledsl.evaluate.bench import Bench
from puzzledsl.evaluate.errors import ItemTooLong, NoEvalData, ReservedTaskName, SameTaskName, TooLargeToTime
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import Evaluation
from puzzledsl.ir.tables.evaluations import MEASURES
from puzzledsl.measure.whole import Samples
from tests.evaluate.cases import evaluated, figures_of, with_eval, write_quiz
from tests.interrupting import Interrupted, Recorder
from tests.pieces.train.bld_programs import WHERE
from tests.refused import refused
from tests.uptrain.cases import Case, make_case

SPEEDS = ("prefill_tokens_per_s", "decode_tokens_per_s", "latency_s", "throughput")
QUALITY = {*MEASURES}
CHEAP = QUALITY | {"params", "checkpoint_bytes"}


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    made = make_case(tmp_path_factory.mktemp("evaluate"))
    write_quiz(made, 6)
    spec = nodes.MeasuredHardware(device="cpu", dtype="fp32")
    scenario = nodes.Scenario(name="chat", hardware="here", batches=(1, 2), prompt=8, output=6, where=WHERE)
    hardware = {"here": nodes.Hardware(name="here", spec=spec, where=WHERE)}
    made.program = made.program.model_copy(update={"hardware": hardware, "scenarios": {"chat": scenario}})
    return with_eval(made)


@pytest.fixture(scope="module")
def result(case, tmp_path_factory) -> Evaluation:
    """The child in full, the parent as a child of its own in full, and the child cheaply."""
    work = tmp_path_factory.mktemp("once") / "work"
    models = {"best": case.child, "same": case.parent, "greedy": case.child}
    found = evaluated(case, work, models=models, full=("best", "same"))
    assert not work.exists()
    return found


def test_who_gets_which_figures(case, result, tmp_path):
    found = {model.model: model.figures for model in result.models}
    assert list(found) == ["parent", "best", "same", "greedy"]
    everything = CHEAP | {"quiz", "quiz_norm"} | {f"chat.{name}" for name in SPEEDS}
    assert set(found["parent"]) == set(found["best"]) == everything and set(found["greedy"]) == CHEAP
    assert found["best"]["params"].value == sum(w.numel() for w in load_child(case.child).parameters())
    assert found["best"]["checkpoint_bytes"].value == (case.child / "model.safetensors").stat().st_size
    assert found["parent"]["kl"].value == 0 < found["best"]["kl"].value
    assert found["parent"]["top1_agreement"].value == 1 > found["best"]["top1_agreement"].value
    for name in (*CHEAP, "quiz", "quiz_norm"):
        assert found["same"][name] == found["parent"][name], "a child that is its parent scores as its parent"
    again = figures_of(case, tmp_path / "work")
    for model, name in ((m, n) for m in ("parent", "best") for n in (*CHEAP, "quiz", "quiz_norm")):
        assert again[model][name] == found[model][name], "all but speeds are the same each time"
    for figures in (found["parent"], found["best"]):
        value = {name: figures[f"chat.{name}"].value for name in SPEEDS}
        latency = 2 * 8 / value["prefill_tokens_per_s"] + 6 * 2 / value["decode_tokens_per_s"]
        assert value["latency_s"] == pytest.approx(latency)
        assert value["throughput"] == pytest.approx(2 * 6 / latency)
        assert all(figures[f"chat.{name}"].stderr >= 0 for name in SPEEDS)


def test_children_are_compared_with_the_parent_on_the_same_items(result):
    """With their number of choices as chance."""
    parent, best, *_ = (model.figures for model in result.models)
    of_best, of_same, _ = result.comparisons
    assert (of_best.model, of_same.model) == ("best", "same")
    ratio = of_best.perplexity_ratio
    assert ratio.value == pytest.approx(best["perplexity"].value / parent["perplexity"].value)
    assert ratio.low < ratio.value < ratio.high and of_same.perplexity_ratio.value == 1
    assert list(of_same.kept) == ["quiz", "pooled"]
    quiz = of_same.kept["quiz"]
    assert (quiz.items, quiz.figures, quiz.chance) == (5, ("quiz_norm",), pytest.approx(1 / 3))
    assert quiz.parent == quiz.child == parent["quiz_norm"].value
    assert quiz.verdict in ("above_chance", "parent_at_chance")
    assert quiz.chance_corrected == (1 if quiz.verdict == "above_chance" else None)


def test_a_model_larger_than_memory_is_compared_and_asked_but_not_timed(case, tmp_path, monkeypatch):
    untimed = Case(case.base, case.program.model_copy(update={"scenarios": {}, "hardware": {}}))
    expected = figures_of(untimed, tmp_path / "plenty")
    monkeypatch.setattr(bench, "free_bytes", lambda device: 1000)
    progress = Recorder()
    found = evaluated(untimed, tmp_path / "little", progress)
    assert {model.model: model.figures for model in found.models} == expected
    assert found.answers == () and found.comparisons[0].repetition is None, "it is asked for no text"
    assert len(progress.named("paged")) >= 2
    assert refused(evaluated, case, tmp_path / "timed").kind == TooLargeToTime


def test_tasks_are_answered_in_the_dtype_that_is_declared(case, result, tmp_path, monkeypatch):
    """Texts are compared in float32 all the same."""
    dtypes, real = [], bench.score_choices

    def spy(model, *given, **more):
        dtypes.append(model.dtype)
        return real(model, *given, **more)

    monkeypatch.setattr(bench, "score_choices", spy)
    half = figures_of(with_eval(case, dtype="bf16"), tmp_path / "half")
    assert dtypes == [torch.bfloat16, torch.bfloat16]
    assert half["best"]["kl"] == result.models[1].figures["kl"]


def test_a_scenario_in_an_engine_is_timed_there(case, tmp_path):
    program, asked = case.program, []
    spec = nodes.MeasuredHardware(engine="llama_cpp", dtype="f32", threads=1)
    choice = nodes.LayerChoice(attention=(ParentAttention(),), ffn=(ParentFfn(), NoOpFfn()))
    changed = {
        "hardware": {"here": nodes.Hardware(name="here", spec=spec, where=WHERE)},
        "spaces": {"w": program.spaces["w"].model_copy(update={"layers": (choice,) * 3})},
    }

    def engines(hardware, workload, directories, turns):
        asked.append((hardware.spec.engine, (workload.batch, workload.prompt), len(directories)))
        return [Samples([0.5 / (i + 1)] * turns, [0.1 / (i + 1)] * turns) for i in range(len(directories))]

    changed_case = Case(case.base, program.model_copy(update=changed))
    found = figures_of(changed_case, tmp_path / "work", engines=engines)
    assert asked == [("llama_cpp", (2, 8), 1), ("llama_cpp", (2, 8), 2)]
    latencies = [found[model]["chat.latency_s"].value for model in ("parent", "best")]
    assert latencies == pytest.approx([0.5 + 6 * 0.1, (0.5 + 6 * 0.1) / 2])


def test_a_later_evaluation_takes_texts_and_tasks_and_times_anew(case, tmp_path, monkeypatch):
    measured, measure = [], Bench.measure

    def counted(self, unit, usual=None):
        measured.append(unit.kind)
        return measure(self, unit, usual)

    monkeypatch.setattr(Bench, "measure", counted)
    kept = {"kept": tmp_path / "kept"}
    first = evaluated(case, tmp_path / "one", **kept)
    assert sorted(measured) == sorted(2 * ["answers", "speed", "task", "text"])
    measured.clear()
    again = evaluated(case, tmp_path / "two", **kept)
    assert measured == ["speed", "speed"] and not (tmp_path / "two").exists()
    assert again.answers == first.answers and again.comparisons == first.comparisons
    measured.clear()
    evaluated(with_eval(case, tokens=240), tmp_path / "three", **kept)
    expected = 2 * [
        "answers",
        "speed",
        "text",
    ]  # another text, which prompts are taken from; the same questions
    assert sorted(measured) == sorted(expected)


def test_finished_models_are_not_measured_again(case, tmp_path):
    models = {"best": case.child, "other": case.child}
    with pytest.raises(Interrupted):
        evaluated(case, tmp_path / "work", Recorder(limit=2, of="other"), models)
    progress = Recorder()
    found = figures_of(case, tmp_path / "work", progress, models)
    assert [entry["task"] for entry in progress.named("start")] == ["evaluating other"]
    assert list(found) == ["parent", "best", "other"] and found["other"]["kl"] == found["best"]["kl"]


def test_several_texts_are_measured_each_by_itself(case, result, tmp_path):
    """The first one's figures are the headline's, as they are alone; the parent is near itself on all."""
    other = nodes.Data(name="other", source=nodes.TextData(paths=("other.txt",)), where=WHERE)
    (case.base / "other.txt").write_text("\n\n".join(f"zzz {i} qqq {i * i} ### {i}" * 9 for i in range(20)))
    both = with_eval(case, more_data=("other",))
    both.program = both.program.model_copy(update={"data": {**both.program.data, "other": other}})
    found = evaluated(both, tmp_path / "work", full=())
    parent, best = found.models
    for one in (parent, best):
        assert list(one.texts) == ["mix", "other"] and all(set(f) == QUALITY for f in one.texts.values())
        assert all(one.figures[name] == one.texts["mix"][name] for name in QUALITY)
    assert best.texts["mix"]["kl"] == result.models[1].figures["kl"] != best.texts["other"]["kl"]
    assert {figures["kl"].value for figures in parent.texts.values()} == {0}
    kl = [figures["kl"].value for figures in best.texts.values()]
    apart = max(kl) > 3 * min(kl) and max(kl) > min(kl) + 0.2
    assert (found.comparisons[0].text_gap is not None) == apart


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tasks": ("quiz.jsonl", "more/../quiz.jsonl")}, SameTaskName),
        ({"tasks": ("pooled.jsonl",)}, ReservedTaskName),
        ({"tasks": ("long.jsonl",)}, ItemTooLong),
        ({"data": None}, NoEvalData),
    ],
)
def test_what_cannot_be_evaluated_is_a_diagnostic(case, tmp_path, changes, problem):
    (case.base / "more").mkdir(exist_ok=True)
    long = {"context": "a" * 300, "choices": ["b", "c"], "answer": 0}
    (case.base / "long.jsonl").write_text(json.dumps(long) + "\n")
    (case.base / "pooled.jsonl").write_text((case.base / "quiz.jsonl").read_text())
    changed = with_eval(case, **changes)
    if changes.get("data", "mix") is None:
        changed.program = changed.program.model_copy(update={"data": {}})
    found = refused(evaluated, changed, tmp_path / "work")
    assert found.kind == problem and found.span is not None
