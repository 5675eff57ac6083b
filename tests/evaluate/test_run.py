"""A whole evaluation: parent first, the same figures each time, nothing measured twice."""

from __future__ import annotations

import json

import pytest
import torch

from puzzledsl.alternatives.linear import NoOpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Silent
from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.evaluate import bench
from puzzledsl.evaluate import bench as models
from puzzledsl.evaluate.bench import Bench
from puzzledsl.evaluate.errors import (
    ItemTooLong,
    NoEvalData,
    ReservedTaskName,
    SameTaskName,
    TooLargeToTime,
)
from puzzledsl.evaluate.run import EvalInputs, run_eval
from puzzledsl.ir import nodes
from puzzledsl.measure.whole import Samples
from tests.pieces.train.bld_programs import WHERE
from tests.uptrain.cases import Case, Interrupted, Recorder, make_case

SPEEDS = ("prefill_tokens_per_s", "decode_tokens_per_s", "latency_s", "throughput")
CHEAP = {"params", "checkpoint_bytes", "kl", "perplexity"} | {f"top{k}_agreement" for k in (1, 5, 10)}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    made = make_case(tmp_path_factory.mktemp("evaluate"))
    lines = [
        {"context": f"kara {i}", "choices": ["lone mito", f"x{i} sura kane", "q"], "answer": i % 3}
        for i in range(6)
    ]
    (made.base / "quiz.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    spec = nodes.MeasuredHardware(device="cpu", dtype="fp32")
    scenario = nodes.Scenario(name="chat", hardware="here", batches=(1, 2), prompt=8, output=6, where=WHERE)
    made.program = made.program.model_copy(
        update={
            "hardware": {"here": nodes.Hardware(name="here", spec=spec, where=WHERE)},
            "scenarios": {"chat": scenario},
        }
    )
    return with_eval(made)


def with_eval(case: Case, **changes) -> Case:
    settings = {"of": "best", "tasks": ("quiz.jsonl",), "items": 5, "data": "mix", "tokens": 300} | changes
    declaration = nodes.Eval(name="e", where=WHERE, **settings)
    return Case(case.base, case.program.model_copy(update={"evals": {"e": declaration}}))


def run(case: Case, work, progress=None, models=None, full=("best",)):
    found = {"best": case.child} if models is None else models
    cache = case.base / "tokens"
    result = run_eval(
        EvalInputs(
            case.program, "e", found, set(full), case.parent, case.base, cache, work, progress or Silent()
        )
    )
    return {m.model: m.figures for m in result.models}


def test_who_gets_which_figures(case, tmp_path):
    found = run(case, tmp_path / "work", models={"best": case.child, "greedy": case.child})
    assert list(found) == ["parent", "best", "greedy"]
    everything = CHEAP | {"quiz", "quiz_norm"} | {f"chat.{name}" for name in SPEEDS}
    assert set(found["parent"]) == set(found["best"]) == everything and set(found["greedy"]) == CHEAP
    assert found["best"]["params"].value == sum(w.numel() for w in load_child(case.child).parameters())
    assert found["best"]["checkpoint_bytes"].value == (case.child / "model.safetensors").stat().st_size
    assert found["parent"]["kl"].value == 0 < found["best"]["kl"].value
    assert found["parent"]["top1_agreement"].value == 1 > found["best"]["top1_agreement"].value
    assert not (tmp_path / "work").exists()


def test_a_model_larger_than_memory_is_compared_and_asked_but_not_timed(case, tmp_path, monkeypatch):
    untimed = Case(case.base, case.program.model_copy(update={"scenarios": {}, "hardware": {}}))
    expected = run(untimed, tmp_path / "plenty")
    monkeypatch.setattr(models, "free_bytes", lambda device: 1000)
    progress = Recorder()
    assert run(untimed, tmp_path / "little", progress) == expected
    assert len(progress.named("paged")) >= 2
    with pytest.raises(DiagnosticError) as error:
        run(case, tmp_path / "timed")
    assert isinstance(error.value.diagnostics[0], TooLargeToTime)


def test_children_are_compared_with_the_parent_on_the_same_items(case, tmp_path):
    models = {"best": case.child, "same": case.parent}
    result = run_eval(
        EvalInputs(
            case.program,
            "e",
            models,
            {"best", "same"},
            case.parent,
            case.base,
            case.base / "tokens",
            tmp_path,
            Silent(),
        )
    )
    parent, best, same = (m.figures for m in result.models)
    of_best, of_same = result.comparisons
    assert (of_best.model, of_same.model) == ("best", "same")
    ratio = of_best.perplexity_ratio
    assert ratio.value == pytest.approx(best["perplexity"].value / parent["perplexity"].value)
    assert ratio.low < ratio.value < ratio.high
    assert of_same.perplexity_ratio.value == 1 and same["quiz"] == parent["quiz"]


def test_tasks_are_answered_in_the_dtype_that_is_declared(case, tmp_path, monkeypatch):
    """Texts are compared in float32 all the same, and unfinished work in another dtype is not used."""
    dtypes = []
    real = bench.log_likelihoods

    def spy(model, *given, **more):
        dtypes.append(model.dtype)
        return real(model, *given, **more)

    monkeypatch.setattr(bench, "log_likelihoods", spy)
    plain = run(case, tmp_path / "plain")
    assert set(dtypes) == {torch.float32}
    dtypes.clear()
    half = run(with_eval(case, dtype="bf16"), tmp_path / "half")
    assert dtypes == [torch.bfloat16, torch.bfloat16]
    assert half["best"]["kl"] == plain["best"]["kl"]
    assert half["best"].keys() == plain["best"].keys()


def test_speeds_fit_together(case, tmp_path):
    for figures in run(case, tmp_path / "work").values():
        value = {name: figures[f"chat.{name}"].value for name in SPEEDS}
        latency = 2 * 8 / value["prefill_tokens_per_s"] + 6 * 2 / value["decode_tokens_per_s"]
        assert value["latency_s"] == pytest.approx(latency)
        assert value["throughput"] == pytest.approx(2 * 6 / latency)
        assert all(figures[f"chat.{name}"].stderr >= 0 for name in SPEEDS)


def test_a_scenario_in_an_engine_is_timed_there(case, tmp_path):
    program, asked = case.program, []
    spec = nodes.MeasuredHardware(engine="llama_cpp", dtype="f32", threads=1)
    hardware = {"here": nodes.Hardware(name="here", spec=spec, where=WHERE)}
    choice = nodes.LayerChoice(attention=(ParentAttention(),), ffn=(ParentFfn(), NoOpFfn()))
    space = program.spaces["w"].model_copy(update={"layers": (choice,) * len(program.spaces["w"].layers)})
    goal = nodes.Linear(terms=())
    search = nodes.Search(
        name="best", space="w", sense="minimize", objective=goal, solver=nodes.CpSat(time_s=1), where=WHERE
    )
    changed = {"hardware": hardware, "spaces": {"w": space}, "searches": {"best": search}}

    def engines(hardware, workload, directories, turns):
        asked.append((hardware.spec.engine, (workload.batch, workload.prompt), len(directories)))
        return [Samples([0.5 / (i + 1)] * turns, [0.1 / (i + 1)] * turns) for i in range(len(directories))]

    result = run_eval(
        EvalInputs(
            program.model_copy(update=changed), "e", {"best": case.child}, {"best"}, case.parent, case.base,
            case.base / "tokens", tmp_path / "work", Silent(), engines=engines,
        )
    )  # fmt: skip
    assert asked == [("llama_cpp", (2, 8), 1), ("llama_cpp", (2, 8), 2)]
    parent, best = (model.figures for model in result.models)
    assert parent["chat.latency_s"].value == pytest.approx(0.5 + 6 * 0.1)
    assert best["chat.latency_s"].value == pytest.approx((0.5 + 6 * 0.1) / 2)


def test_figures_but_speed_are_the_same_each_time(case, tmp_path):
    runs = [run(case, tmp_path / "work") for _ in range(2)]
    for model in ("parent", "best"):
        one, two = ({k: f for k, f in found[model].items() if not k.startswith("chat.")} for found in runs)
        assert one == two


def test_a_child_that_is_its_parent_scores_as_its_parent(case, tmp_path):
    found = run(case, tmp_path / "work", models={"same": case.parent}, full=("same",))
    for name in (*CHEAP, "quiz", "quiz_norm"):
        assert found["same"][name] == found["parent"][name]


def test_a_later_evaluation_takes_texts_and_tasks_and_times_anew(case, tmp_path, monkeypatch):
    measured: list[str] = []
    measure = Bench.measure

    def counted(self, unit, usual=None):
        measured.append(unit.kind)
        return measure(self, unit, usual)

    monkeypatch.setattr(Bench, "measure", counted)

    def evaluated(case, work):
        measured.clear()
        given = {"best": case.child}, {"best"}, case.parent, case.base, case.base / "tokens", tmp_path / work
        return run_eval(EvalInputs(case.program, "e", *given, Silent(), kept=tmp_path / "kept"))

    first = evaluated(case, "one")
    assert sorted(measured) == sorted(2 * ["answers", "speed", "task", "text"])
    again = evaluated(case, "two")
    assert measured == ["speed", "speed"] and not (tmp_path / "two").exists()
    assert again.answers == first.answers and again.comparisons == first.comparisons
    evaluated(
        with_eval(case, tokens=240), "three"
    )  # another text, which prompts are taken from, and the same questions
    assert sorted(measured) == sorted(2 * ["answers", "speed", "text"])


def test_finished_models_are_not_measured_again(case, tmp_path):
    models = {"best": case.child, "other": case.child}
    with pytest.raises(Interrupted):
        run(case, tmp_path / "work", Recorder(limit=2, of="other"), models=models)
    progress = Recorder()
    found = run(case, tmp_path / "work", progress, models=models)
    assert [entry["task"] for entry in progress.named("start")] == ["evaluating other"]
    assert list(found) == ["parent", "best", "other"] and found["other"]["kl"] == found["best"]["kl"]


def test_several_texts_are_measured_each_by_itself(case, tmp_path):
    """The first one's figures are the headline's, as they are alone; the parent is near itself on all."""
    other = nodes.Data(name="other", source=nodes.TextData(paths=("other.txt",)), where=WHERE)
    (case.base / "other.txt").write_text("\n\n".join(f"zzz {i} qqq {i * i} ### {i}" * 9 for i in range(20)))
    alone = run(case, tmp_path / "alone")
    both = with_eval(case, more_data=("other",))
    data = {**both.program.data, "other": other}
    both.program = both.program.model_copy(update={"data": data})
    result = run_eval(EvalInputs(
        both.program, "e", {"best": both.child}, set(), both.parent, both.base, both.base / "tokens", tmp_path / "w",
        Silent(),
    ))  # fmt: skip
    parent, best = result.models
    quality = {"kl", "perplexity", *(f"top{k}_agreement" for k in (1, 5, 10))}
    for found in (parent, best):
        assert list(found.texts) == ["mix", "other"] and all(set(f) == quality for f in found.texts.values())
        assert all(found.figures[name] == found.texts["mix"][name] for name in quality)
    assert best.texts["mix"]["kl"] == alone["best"]["kl"] != best.texts["other"]["kl"]
    assert {figures["kl"].value for figures in parent.texts.values()} == {0}
    [comparison] = result.comparisons
    kl = [figures["kl"].value for figures in best.texts.values()]
    apart = max(kl) > 3 * min(kl) and max(kl) > min(kl) + 0.2
    assert (comparison.text_gap is not None) == apart


def test_what_a_child_keeps_is_in_the_comparison(case, tmp_path):
    """Paired over the same items as its figures, with their number of choices as chance."""
    result = run_eval(EvalInputs(
        case.program, "e", {"same": case.parent}, {"same"}, case.parent, case.base, case.base / "tokens", tmp_path, Silent()
    ))  # fmt: skip
    [comparison], parent = result.comparisons, result.models[0].figures
    assert list(comparison.kept) == ["quiz", "pooled"]
    quiz = comparison.kept["quiz"]
    assert (quiz.items, quiz.figures, quiz.chance) == (5, ("quiz_norm",), pytest.approx(1 / 3))
    assert quiz.parent == quiz.child == parent["quiz_norm"].value
    assert quiz.verdict in ("above_chance", "parent_at_chance")
    assert quiz.chance_corrected == (1 if quiz.verdict == "above_chance" else None)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tasks": ("quiz.jsonl", "more/../quiz.jsonl")}, SameTaskName),
        ({"tasks": ("pooled.jsonl",)}, ReservedTaskName),
        ({"tasks": ("long.jsonl",)}, ItemTooLong),
    ],
)
def test_tasks_that_do_not_do_are_diagnostics(case, tmp_path, changes, problem):
    (case.base / "more").mkdir(exist_ok=True)
    long = {"context": "a" * 300, "choices": ["b", "c"], "answer": 0}
    (case.base / "long.jsonl").write_text(json.dumps(long) + "\n")
    (case.base / "pooled.jsonl").write_text((case.base / "quiz.jsonl").read_text())
    with pytest.raises(DiagnosticError) as error:
        run(with_eval(case, **changes), tmp_path / "work")
    assert isinstance(error.value.diagnostics[0], problem) and error.value.diagnostics[0].span is not None


def test_data_must_be_named_when_there_are_several(case, tmp_path):
    unnamed = with_eval(case, data=None)
    unnamed.program = unnamed.program.model_copy(update={"data": {}})
    with pytest.raises(DiagnosticError) as error:
        run(unnamed, tmp_path / "work")
    assert isinstance(error.value.diagnostics[0], NoEvalData)


def test_a_child_s_window_that_an_item_exceeds_does_not_forbid_sharing(tmp_path, monkeypatch):
    """It goes by positions, which are distances in a shared row too; the parent's own would (`can_share`)."""
    shared = []

    def spy(model, items, *, share_context, advance):
        shared.append(share_context)
        return [[0.0] * len(item) for item in items]

    monkeypatch.setattr(bench, "log_likelihoods", spy)
    made = make_case(tmp_path / "case")
    config = json.loads((made.child / "config.json").read_text())
    lines = [{"context": "0123456789", "choices": ["a", "b"], "answer": 0}]
    (made.base / "quiz.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for window in (12, 11):  # the item has 12 tokens
        config["block_configs"][1]["attention"]["window_length"] = window
        (made.child / "config.json").write_text(json.dumps(config))
        run(with_eval(made, items=None), tmp_path / "work")
    assert shared == [True] * 4  # parent, child; parent, child
