"""Prompts that parent and child answer: where they come from, what is said, and how much of it was said before."""

import json

import pytest
import torch

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.checkpoint.contents import load_checkpoint
from puzzledsl.data.chat import prompts_of_file
from puzzledsl.evaluate.compare import repetition, repetition_of
from puzzledsl.evaluate.prompts import ANSWER_TOKENS, MOST, prompts_of
from puzzledsl.ir import nodes
from puzzledsl.ir.tables import Answer
from puzzledsl.models.families.load import load_tokenizer
from tests.evaluate.cases import evaluated, with_eval
from tests.refused import refused
from tests.uptrain.cases import Case, make_case

TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}[assistant]"


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return make_case(tmp_path_factory.mktemp("answers"))


def asked(case: Case, work, **settings):
    """The evaluation of two children, of which one is in full."""
    children = {"best": case.child, "other": case.child}
    return evaluated(with_eval(case, tasks=(), **settings), work, models=children)


def greedy(model, ids: list[int], end: int) -> list[int]:
    said: list[int] = []
    while len(said) < ANSWER_TOKENS and said[-1:] != [end]:
        said.append(int(model(torch.tensor([[*ids, *said]])).logits[0, -1].argmax()))
    return said[:-1] if said[-1:] == [end] else said


def test_beginnings_of_documents_are_answered_by_the_parent_and_by_models_in_full(case, tmp_path):
    found = asked(case, tmp_path / "work")
    assert len(found.answers) == 3 and {p.source for p in found.answers} == {"mix"}
    assert all(set(p.answers) == {"parent", "best"} for p in found.answers)
    texts = "\n\n".join(path.read_text() for path in case.base.glob("*.txt"))
    assert all(p.prompt.strip() and p.prompt.strip() in texts for p in found.answers)
    assert all(p.continuation and (p.prompt + p.continuation).strip() in texts for p in found.answers)
    parent, child = ([p.answers[name].repetition for p in found.answers] for name in ("parent", "best"))
    best, other = found.comparisons
    assert best.repetition.parent == pytest.approx(sum(parent) / 3)
    assert best.repetition.child == pytest.approx(sum(child) / 3) and other.repetition is None
    assert asked(case, tmp_path / "again") == found


def test_a_text_whose_blocks_have_no_end_of_a_document_gives_beginnings_of_blocks(case, tmp_path):
    """Blocks of 20 tokens, most of them within a document: none of it is long enough to begin in one."""
    tokenizer = load_tokenizer(case.parent)
    blocks_NT = torch.tensor([[30 + i for i in range(20)], [40] * 20])
    given = (with_eval(case, tasks=()).program.evals["e"], case.base, tokenizer)
    found = prompts_of(*given, 256, {"mix": blocks_NT})
    assert [len(prompt.ids) for prompt in found] == [10, 10] and found[1].ids == (40,) * 10
    assert prompts_of(*given, 70, {"mix": blocks_NT}) == (), "where no answer has room nothing is asked"
    for texts, each in (("ab", 2), ("abcd", 1)):
        sources = [prompt.source for prompt in prompts_of(*given, 256, dict.fromkeys(texts, blocks_NT))]
        assert sources == [name for name in texts for _ in range(each)], "all texts have some"


def test_given_prompts_are_answered_as_greedy_decoding_does(case, tmp_path):
    """Token by token, from full logits; texts of the program, and of a file, of which the first 16 count."""
    tokenizer, model = load_tokenizer(case.parent), load_checkpoint(case.child)
    texts = ("kara lone", "sura mito kane")
    found = asked(case, tmp_path / "work", prompts=nodes.Prompts(texts=texts))
    for text, prompt in zip(texts, found.answers, strict=True):
        ids = greedy(model, tokenizer(text)["input_ids"], tokenizer.eos_token_id)
        assert (prompt.prompt, prompt.source, prompt.continuation) == (text, "", "")
        said = tokenizer.decode(ids, skip_special_tokens=True)
        expected = Answer(text=said, tokens=len(ids), repetition=repetition_of(ids))
        assert prompt.answers["best"] == expected
    lines = [json.dumps({"prompt": f"kara {i}"}) + "\n" for i in range(20)]
    (case.base / "many.jsonl").write_text("".join(lines))
    many = asked(case, tmp_path / "more", prompts=nodes.Prompts(path="many.jsonl"))
    assert [p.prompt for p in many.answers] == [f"kara {i}" for i in range(MOST)]
    assert asked(case, tmp_path / "none", prompts=nodes.Prompts()).answers == ()


def test_repetition_is_the_share_of_runs_that_were_there_before():
    assert repetition_of([1, 2, 3, 4]) == repetition_of(range(50)) == repetition_of([]) == 0
    assert repetition_of([7] * 13) == 0.9
    assert repetition_of([1, 2, 3, 4, 5] * 2) == pytest.approx(2 / 7)

    def answers(*shares: float) -> list[Answer]:
        return [Answer(text="", tokens=9, repetition=share) for share in shares]

    found = repetition(answers(0.1, 0.3), answers(0.5, 0.4))
    assert (found.parent, found.child, found.remarkable) == (pytest.approx(0.2), pytest.approx(0.45), True)
    assert not repetition(answers(0.8), answers(0.9)).remarkable, "the parent does so, too"
    assert repetition([], []) is None


def test_files_of_prompts(case, tmp_path):
    text, lines = tmp_path / "p.txt", tmp_path / "p.jsonl"
    text.write_text("Once upon\na time\n\n\n  \nWhy?\n")
    assert [p.text for p in prompts_of_file(text, None)] == ["Once upon\na time", "Why?"]
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    lines.write_text(json.dumps({"prompt": "Once"}) + "\n\n" + json.dumps({"messages": chat}) + "\n")
    one, two = prompts_of_file(lines, None)
    assert (one.text, two.text, len(two.messages)) == ("Once", "Why?", 2)
    with pytest.raises(DiagnosticError, match=r"line 3 of .* no chat template"):
        two.ids(load_tokenizer(case.parent), None)
    tokenizer = load_tokenizer(case.parent)
    assert one.ids(tokenizer, None) == tokenizer("Once")["input_ids"]
    tokenizer.chat_template = TEMPLATE
    expected = tokenizer("[user] Once[assistant]", add_special_tokens=False)["input_ids"]
    assert one.ids(tokenizer, None) == expected, "a text is a user's message where there is a template"
    tokenizer.chat_template = "{{ raise_exception('only users speak') }}"
    with pytest.raises(DiagnosticError, match=r"the chat template refuses it .only users speak"):
        two.ids(tokenizer, None)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[1]", "it is no JSON object"),
        ('{"question": "Why?"}', "it has no `prompt`"),
        ('{"prompt": 3}', "its `prompt` is no text"),
        ('{"messages": []}', "`messages` are objects"),
        ('{"messages": [{"role": "user"}]}', "`messages` are objects"),
        ('{"messages": [{"role": "assistant", "content": "Yes."}]}', "its last message is the answer"),
    ],
)
def test_a_line_that_is_no_prompt_is_told_with_its_place(tmp_path, line, reason):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "Why?"}\n' + line + "\n")
    problem = refused(prompts_of_file, path, None)
    assert problem.code == "E1221"
    assert problem.message.startswith(f"line 2 of `{path}` is no prompt: {reason}")


@pytest.mark.parametrize("content", [b"\n\n", "ä".encode("latin-1")])
def test_a_file_without_prompts(tmp_path, content):
    path = tmp_path / "p.txt"
    path.write_bytes(content)
    assert refused(prompts_of_file, path, None).code == "E1220"


def test_a_prompt_that_is_too_long(case, tmp_path):
    with pytest.raises(DiagnosticError, match="leave room for an answer") as error:
        asked(case, tmp_path / "work", prompts=nodes.Prompts(texts=("kara " * 3000,)))
    assert error.value.diagnostics[0].code == "E1221"
