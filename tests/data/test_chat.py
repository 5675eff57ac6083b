"""Conversations become what the parent's chat template writes, and losses count what the program says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.data.chat import ChatWriter
from puzzledsl.data.documents import Conversation, Place, TokenDocument
from puzzledsl.data.streams import token_rows
from puzzledsl.ir import nodes
from tests.data.chats import (
    ANSWER,
    BACKWARDS,
    CHATML,
    DATED,
    END,
    MARKED,
    MORE,
    QUESTION,
    QWEN3,
    STRICT,
    THINKING,
    chat_data,
    chat_tokenizer,
    write_chats,
)

LONG = [QUESTION, ANSWER, MORE, END]


def written(template: str | None, messages: list[dict[str, str]], *, answers: bool = True) -> TokenDocument:
    place = Place.of(chat_data("chat.jsonl"), Path())
    writer = ChatWriter(place, chat_tokenizer(template), answers=answers)
    (found,) = writer.write([Conversation(tuple(messages), "chat.jsonl:7")])
    return found


def learned_text(found: TokenDocument, template: str) -> str:
    assert found.learned is not None
    kept = [i for i, learned in zip(found.ids, found.learned, strict=True) if learned]
    return chat_tokenizer(template).decode(kept)


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_answers_are_the_assistants_words_and_the_end_of_its_turn(template: str) -> None:
    system = {"role": "system", "content": "It is 4. Be brief."}
    found = written(template, [system, *LONG])
    assert learned_text(found, template) == "It is 4.<|im_end|>Yes, 4.<|im_end|>"
    tokenizer = chat_tokenizer(template)
    assert list(found.ids) == tokenizer.apply_chat_template([system, *LONG], return_dict=False)


def test_a_template_that_writes_the_last_answer_otherwise() -> None:
    """The answer begins behind the generation prompt: the model writes the rest."""
    text = learned_text(written(THINKING, LONG), THINKING)
    assert text == "It is 4.<|im_end|><think>\n\n</think>\n\nYes, 4.<|im_end|>"


def test_thoughts_in_contents_and_calls_of_tools() -> None:
    """Thoughts are learned where they are written; a call is a part of the answer."""
    thinking = [
        {**m, "content": f"<think>\nhm {m['content']}\n</think>\n\n{m['content']}"} for m in (ANSWER, END)
    ]
    text = learned_text(written(QWEN3, [QUESTION, thinking[0], MORE, thinking[1]]), QWEN3)
    assert text == "It is 4.<|im_end|><think>\nhm Yes, 4.\n</think>\n\nYes, 4.<|im_end|>"
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "add"}]}
    tool = {"role": "tool", "content": "4"}
    text = learned_text(written(CHATML, [QUESTION, call, tool, ANSWER]), CHATML)
    assert text == "<|im_end|>It is 4.<|im_end|>"
    text = learned_text(written(QWEN3, [QUESTION, call, tool, ANSWER]), QWEN3)
    assert text == "\n<tool_call>add</tool_call><|im_end|><think>\n\n</think>\n\nIt is 4.<|im_end|>"
    last = learned_text(written(QWEN3, [QUESTION, {**ANSWER, "tool_calls": [{"name": "add"}]}]), QWEN3)
    assert last == "<think>\n\n</think>\n\nIt is 4.\n<tool_call>add</tool_call><|im_end|>"


def test_a_conversation_that_begins_with_an_answer() -> None:
    assert learned_text(written(CHATML, [ANSWER, MORE, END]), CHATML) == "It is 4.<|im_end|>Yes, 4.<|im_end|>"


def test_with_all_tokens_nothing_is_left_out() -> None:
    found = written(CHATML, LONG, answers=False)
    assert found.learned is None and list(found.ids) == list(written(CHATML, LONG).ids)


def test_a_template_that_writes_the_day_writes_the_same_one_every_day() -> None:
    assert chat_tokenizer().decode(written(DATED, LONG, answers=False).ids).startswith("26 Jul 2024")


@pytest.mark.parametrize(
    ("template", "messages", "code", "said"),
    [
        (None, LONG, "E1210", "no chat template"),
        (STRICT, [ANSWER, MORE], "E1212", "`chat.jsonl:7`: a user speaks first"),
        (BACKWARDS, LONG, "E1213", "turn by turn (`chat.jsonl:7`)"),
        ("{% for m in messages %}{{ m.oops.x }}{% endfor %}", LONG, "E1212", "oops"),
    ],
)
def test_what_cannot_be_written_is_a_diagnostic(
    template: str | None, messages: list[dict[str, str]], code: str, said: str
) -> None:
    with pytest.raises(DiagnosticError) as caught:
        written(template, messages)
    (problem,) = caught.value.diagnostics
    assert problem.code == code and said in problem.message
    assert problem.span is not None and problem.span.line == 3


def test_a_slow_tokenizer_cannot_tell_where_answers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(chat_tokenizer()), "is_fast", False)
    with pytest.raises(DiagnosticError) as caught:
        written(CHATML, LONG)
    assert [problem.code for problem in caught.value.diagnostics] == ["E1213"]
    assert learned_text(written(MARKED, LONG), MARKED) == "It is 4.<|im_end|>Yes, 4.<|im_end|>"


def test_positions_that_count_are_those_before_a_token_of_an_answer(tmp_path: Path) -> None:
    """Every block of a file with questions of all lengths, against the tokens of the whole text."""
    chats = [[{"role": "user", "content": "why " * i}, ANSWER, MORE, END] for i in range(1, 9)]
    write_chats(tmp_path / "chat.jsonl", chats)
    tokenizer = chat_tokenizer()
    place = Place.of(chat_data("chat.jsonl"), tmp_path)
    documents = list(
        ChatWriter(place, tokenizer, answers=True).write([Conversation(tuple(c)) for c in chats])
    )
    ids = [i for each in documents for i in each.ids]
    learned = [m for each in documents for m in each.learned or ()]
    size = {"context": 7, "tokens": 7 * (len(ids) // 7), "seed": 0}
    rows = token_rows(chat_data("chat.jsonl"), tmp_path, tokenizer, **size, cache=tmp_path / "cache")
    counted = rows.learned(slice(None))
    assert rows.masked and counted is not None
    blocks = {tuple(ids[i : i + 7]): learned[i + 1 : i + 7] for i in range(0, len(ids) - 6, 7)}
    for block, counts in zip(rows[:].tolist(), counted.tolist(), strict=True):
        assert counts == [*blocks[tuple(block)], False]
    plain = token_rows(chat_data("chat.jsonl", "all"), tmp_path, tokenizer, **size, cache=tmp_path / "cache")
    assert torch.equal(plain[:], rows[:]) and plain.learned(slice(None)) is None
    assert plain.digest() != rows.digest()


def failure(tmp_path: Path, source: nodes.Data) -> tuple[str, str]:
    with pytest.raises(DiagnosticError) as caught:
        token_rows(source, tmp_path, chat_tokenizer(), context=4, tokens=4, seed=0, cache=tmp_path / "cache")
    (problem,) = caught.value.diagnostics
    return problem.code, problem.message


@pytest.mark.parametrize(
    ("chat", "said"),
    [
        ("hello", "no list of messages"),
        ([], "no list of messages"),
        (["hello"], "message 1 is no object"),
        ([QUESTION, {"content": "4"}], "message 2 has no `role`"),
        ([{"role": "asistant", "content": "4"}], "the role `asistant`"),
        ([{"role": "user"}], "no text in `content`"),
        ([{"role": "user", "content": [{"type": "image"}]}], "no text in `content`"),
    ],
)
def test_a_record_that_is_no_conversation_is_named_by_its_line(
    tmp_path: Path, chat: object, said: str
) -> None:
    write_chats(tmp_path / "chat.jsonl", [LONG, chat])  # type: ignore[list-item]
    code, message = failure(tmp_path, chat_data("chat.jsonl"))
    assert code == "E1211" and "chat.jsonl:2`" in message and said in message


def test_other_forms_of_messages(tmp_path: Path) -> None:
    """ShareGPT's names, contents in parts, and fields that are null."""
    plain = [LONG]
    sharegpt = [
        [{"from": {"user": "human", "assistant": "gpt"}[m["role"]], "value": m["content"]} for m in LONG]
    ]
    parts = [[{**m, "content": [{"type": "text", "text": m["content"]}], "name": None} for m in LONG]]
    found = []
    for number, chats in enumerate((plain, sharegpt, parts)):
        write_chats(tmp_path / f"{number}.jsonl", chats)  # type: ignore[arg-type]
        source, size = chat_data(f"{number}.jsonl"), {"context": 4, "tokens": 40, "seed": 0}
        rows = token_rows(source, tmp_path, chat_tokenizer(), **size, cache=tmp_path / "cache")
        found.append(rows.digest())
    assert len(set(found)) == 1


def test_conversations_without_answers(tmp_path: Path) -> None:
    write_chats(tmp_path / "chat.jsonl", [[QUESTION], [MORE]])
    code, message = failure(tmp_path, chat_data("chat.jsonl"))
    assert code == "E1213" and "no conversation has an answer" in message
    write_chats(tmp_path / "other.jsonl", [LONG], "chat")
    assert failure(tmp_path, chat_data("other.jsonl"))[0] == "E1203"


def test_a_mix_of_text_and_answers_counts_all_of_the_text(tmp_path: Path) -> None:
    """Blocks of the text count but for their last position, those of chats by their answers, in any order that the seed gives."""
    (tmp_path / "t.txt").write_text("\n\n".join(f"note {i}" for i in range(40)))
    write_chats(
        tmp_path / "chat.jsonl",
        [[QUESTION, ANSWER, {"role": "user", "content": f"{i}?"}, END] for i in range(9)],
    )
    chats = chat_data("chat.jsonl").source
    assert isinstance(chats, nodes.JsonlData)
    parts = (
        nodes.MixPart(name="t", weight=1, source=nodes.TextData(paths=("t.txt",))),
        nodes.MixPart(name="c", weight=1, source=chats),
    )
    mixed = nodes.Data(name="m", source=nodes.MixData(parts=parts), where=chat_data("x").where)
    size = {"context": 8, "tokens": 8 * 40, "seed": 0}
    rows = token_rows(mixed, tmp_path, chat_tokenizer(), **size, cache=tmp_path / "cache")
    counted = rows.learned(slice(None))
    assert counted is not None and not counted[:, -1].any()
    of_text, of_chats = counted[::2], counted[1::2]
    assert of_text[:, :-1].all() and 0 < of_chats.float().mean() < 0.6
    half = {**size, "tokens": 8 * 20, "cache": tmp_path / "cache"}
    alone = token_rows(chat_data("chat.jsonl"), tmp_path, chat_tokenizer(), **half)
    assert torch.equal(alone[:], rows[:][1::2]) and torch.equal(alone.learned(slice(None)), of_chats)
    again = token_rows(mixed, tmp_path, chat_tokenizer(), **size, cache=tmp_path / "again")
    assert again.digest() == rows.digest() and again.part(3, 9).digest() == rows.part(3, 9).digest()
