"""Tasks of lm-eval: the same questions get the same answers as ours, from our models, beside the parent's."""

import sys
from types import SimpleNamespace

import pytest
import torch

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentFfn
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.checkpoint.contents import load_checkpoint
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.data.tasks import encode_choice, read_tasks
from puzzledsl.evaluate import choices
from puzzledsl.evaluate import plan as harness
from puzzledsl.evaluate.choices import answers, score_choices, shared_row
from puzzledsl.evaluate.errors import HarnessFailed, NoHarness, UnknownHarnessTask
from puzzledsl.evaluate.plan import Harness, endings, leaves, scores
from puzzledsl.evaluate.prompts import Prompt, continuations
from puzzledsl.models.families.load import load_parent, load_tokenizer
from tests.child.checkpoint.test_hybrid_children import MIXED
from tests.children import define, random_pieces
from tests.evaluate.cases import figures_of, with_eval, write_quiz
from tests.refused import refused
from tests.tiles import cut
from tests.tiny import save_tiny, tiny_tokens
from tests.uptrain.cases import Case, make_case

TASK = """\
task: quiz_again
dataset_path: json
dataset_kwargs: {{data_files: {{test: {path}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{context}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - metric: acc
  - metric: acc_norm
"""


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    made = make_case(tmp_path_factory.mktemp("harness"))
    path = write_quiz(made, 9)
    (made.base / "lm_eval").mkdir()
    (made.base / "lm_eval" / "quiz_again.yaml").write_text(TASK.format(path=path))
    return made


@pytest.fixture(scope="module")
def model(case):
    return load_checkpoint(case.child)


def test_an_ending_scores_as_in_full_logits(model, monkeypatch):
    """Endings of one question read their context once; questions that begin alike but are not neighbours stay apart."""
    read = []
    monkeypatch.setattr(choices, "shared_row", lambda item: read.append(len(item)) or shared_row(item))
    same = [([7, 8, 9], 1), ([7, 8, 10, 11], 2), ([7, 8], 0), ([5, 6], 1), ([7, 8, 12], 1)]
    rows = same + [(tiny_tokens(1, n, seed=n)[0].tolist(), k) for n, k in ((9, 3), (14, 1), (5, 4), (6, 0))]
    best = [7, 8]
    while len(best) < 5:
        best.append(int(model(torch.tensor([best])).logits[0, -1].argmax()))
    rows += [(best, 3), ([*best[:4], (best[4] + 1) % 260], 3)]
    found = endings(model, rows)
    for (ids, length), (value, greedy) in zip(rows, found, strict=True):
        log_p = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        at = range(len(ids) - length, len(ids))
        assert value == pytest.approx(sum(float(log_p[i - 1, ids[i]]) for i in at), rel=1e-4)
        assert greedy == all(int(log_p[i - 1].argmax()) == ids[i] for i in at)
    assert read[:3] == [2, 1, 1]
    assert found[2] == (0.0, True), "an empty ending is certain"
    assert [greedy for _, greedy in found[-2:]] == [True, False]


def generate(model, tokenizer, *prompts: Prompt) -> list[str]:
    return continuations(model, tokenizer, prompts, lambda prompts: None)


def batches_of(monkeypatch, model) -> list[tuple[int, int]]:
    """Shapes of what the model generates from."""
    seen, real = [], model.generate
    monkeypatch.setattr(model, "generate", lambda ids, **k: seen.append(tuple(ids.shape)) or real(ids, **k))
    return seen


WINDOWS = [
    (GqaAttention(kv_heads=4, window=5, sinks=2), ParentFfn()),
    (GqaAttention(kv_heads=2, window=6), MlpFfn(width=20)),
    (NoOpAttention(), ParentFfn()),
]


@pytest.mark.parametrize(("family", "layers"), [("llama", WINDOWS), *MIXED.items()])
def test_texts_of_a_batch_are_those_of_each_prompt_alone(tmp_path, monkeypatch, family, layers):
    """Prompts of many lengths, with windows and states that padding must not reach; some end early, at a stop or the end."""
    parent = save_tiny(tmp_path / "parent", family, layers=len(layers), scale=0.2)
    realise(define(layers), parent, random_pieces(load_parent(parent), layers), tmp_path / "child")
    model, tokenizer = load_checkpoint(tmp_path / "child"), load_tokenizer(parent)
    starts = [tuple(tiny_tokens(1, n, seed=i)[0].tolist()) for i, n in enumerate((3, 17, 9, 9, 1, 30))]
    plain = [Prompt(ids, 8, ()) for ids in starts]
    (first,) = generate(model, tokenizer, plain[1])
    stops = [Prompt(ids, 8, (first[2:4],)) for ids in starts[:3]]
    short = [Prompt(ids, 3, ()) for ids in starts[3:]]
    asked = [prompt for some in zip(plain[:3], stops, short, strict=True) for prompt in some] + plain[3:]
    alone = [generate(model, tokenizer, prompt)[0] for prompt in asked]
    assert generate(model, tokenizer, stops[1]) == [first[: first.find(first[2:4])]]
    seen = batches_of(monkeypatch, model)
    told: list[int] = []
    assert continuations(model, tokenizer, asked, told.append) == alone
    assert sorted(seen) == [(3, 17), (3, 30), (6, 30)] and sum(told) == len(asked)
    seen.clear()
    cut(monkeypatch, generated_tokens=60)
    assert generate(model, tokenizer, *plain) == [generate(model, tokenizer, p)[0] for p in plain]
    assert seen[:3] == [(1, 30), (2, 17), (3, 9)]


def test_a_group_is_all_its_tasks():
    groups = {"all": ["some", "c"], "some": ["a", "b"], "a": []}
    assert leaves("all", groups) == ["a", "b", "c"] and leaves("c", groups) == ["c"]
    four, two = [[(0.0, True)]] * 4, [[(0.0, True)]] * 2
    samples = {
        "a": [{"acc": 1.0, "acc_norm": 0.0, "resps": four}],
        "b": [{"acc": 0.0, "resps": two}],
        "c": [{"acc": True, "resps": [[(0.0, True)]]}, {"other": 1}],
    }
    found = scores("all", samples, groups)
    assert found.right == {"all": (1.0, 0.0, 1.0), "all_norm": (0.0,)}
    assert found.chances == {"all": (0.25, 0.5, 0.0), "all_norm": (0.25,)}, "one ending is not guessed"
    free = scores("d", {"d": [{"exact_match": 1.0, "resps": [["4"]] * 2}]}, {})
    assert free.chances == {"d": (0.0,)}, "nor is a text"


def test_without_lm_eval_there_is_a_diagnostic(case, monkeypatch, tmp_path):
    monkeypatch.setattr(harness.importlib.util, "find_spec", lambda name: None)
    assert refused(figures_of, with_eval(case, lm_eval=("quiz_again",)), tmp_path).kind == NoHarness


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_harness_finds_what_we_find(case, model, monkeypatch, tmp_path):
    """Item by item, on the same file; through a whole evaluation too, where parent and child are paired."""
    pytest.importorskip("lm_eval")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    tokenizer, items = load_tokenizer(case.parent), read_tasks(case.base / "quiz.jsonl", 7)
    encoded = [[encode_choice(tokenizer, item.context, c) for c in item.choices] for item in items]
    scored = score_choices(model, encoded, share_context=True)
    ours = answers("quiz_again", items, [[choice.log_prob for choice in item] for item in scored])
    asked = Harness(("quiz_again",), shots=0, items=7, folder=case.base)
    assert asked.answers(model, tokenizer, None) == ours
    found = figures_of(with_eval(case, lm_eval=("quiz_again",), items=7), tmp_path / "work")
    for figures in found.values():
        assert figures["quiz_again"] == figures["quiz"] and figures["quiz_again_norm"] == figures["quiz_norm"]

    with pytest.raises(DiagnosticError) as error:
        Harness(("quiz_agian", "qqqqq"), None, 1, case.base).check(None)
    near, far = error.value.diagnostics
    assert near.kind == UnknownHarnessTask and "quiz_again" in near.help and "ls tasks" in far.help
    (case.base / "quiz.jsonl").rename(case.base / "gone.jsonl")
    asked = Harness(("quiz_again",), None, 1, case.base)
    assert refused(asked.answers, model, tokenizer, None).kind == HarnessFailed


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
        (RuntimeError("CUDA error: x"), RuntimeError),
        (RuntimeError("no data"), DiagnosticError),
    ],
)
def test_errors_of_the_hardware_pass_through_the_harness(case, model, monkeypatch, error, seen):
    """Whoever runs the worker must see its loss; all other errors are mistakes that are told."""

    def simple_evaluate(**given):
        raise error

    monkeypatch.setitem(sys.modules, "lm_eval", SimpleNamespace(simple_evaluate=simple_evaluate))
    monkeypatch.setattr(harness, "language_model", lambda *given: None)
    monkeypatch.setattr(Harness, "_manager", lambda self: None)
    with pytest.raises(seen, match=str(error)) as passed:
        Harness(("quiz",), None, 1, case.base).answers(model, None, None)
    assert (passed.value is error) == (seen is not DiagnosticError)
