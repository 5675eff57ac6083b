"""Conversations become what the parent's chat template writes, and losses count what the program says."""

from pathlib import Path

import pytest
import torch

from puzzledsl.data.chat import ChatWriter
from puzzledsl.data.documents import Conversation, Place, TokenDocument
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
    WHERE,
    chat_data,
    chat_tokenizer,
    failure,
    read,
    write_chats,
)
from tests.refused import refused

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


def test_answers_of_unusual_templates_and_conversations() -> None:
    """An answer begins behind the generation prompt: the model writes the rest."""
    text = learned_text(written(THINKING, LONG), THINKING)
    assert text == "It is 4.<|im_end|><think>\n\n</think>\n\nYes, 4.<|im_end|>"
    assert learned_text(written(CHATML, [ANSWER, MORE, END]), CHATML) == "It is 4.<|im_end|>Yes, 4.<|im_end|>"
    plain = written(CHATML, LONG, answers=False)
    assert plain.learned is None and list(plain.ids) == list(written(CHATML, LONG).ids)
    dated = chat_tokenizer().decode(written(DATED, LONG, answers=False).ids)
    assert dated.startswith("26 Jul 2024"), "a template that writes the day writes the same one every day"


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
    problem = refused(written, template, messages)
    assert problem.code == code and said in problem.message
    assert problem.span is not None and problem.span.line == 3


def test_a_slow_tokenizer_cannot_tell_where_answers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(chat_tokenizer()), "is_fast", False)
    assert refused(written, CHATML, LONG).code == "E1213"
    assert learned_text(written(MARKED, LONG), MARKED) == "It is 4.<|im_end|>Yes, 4.<|im_end|>"


def test_positions_that_count_are_those_before_a_token_of_an_answer(tmp_path: Path) -> None:
    """Every block of a file with questions of all lengths, against the tokens of the whole text."""
    chats = [[{"role": "user", "content": "why " * i}, ANSWER, MORE, END] for i in range(1, 9)]
    write_chats(tmp_path / "chat.jsonl", chats)
    writer = ChatWriter(Place.of(chat_data("chat.jsonl"), tmp_path), chat_tokenizer(), answers=True)
    documents = list(writer.write([Conversation(tuple(c)) for c in chats]))
    ids = [i for each in documents for i in each.ids]
    learned = [m for each in documents for m in each.learned or ()]
    size = {"context": 7, "tokens": 7 * (len(ids) // 7)}
    rows = read(chat_data("chat.jsonl"), tmp_path, **size)
    counted = rows.learned(slice(None))
    assert rows.masked and counted is not None
    blocks = {tuple(ids[i : i + 7]): learned[i + 1 : i + 7] for i in range(0, len(ids) - 6, 7)}
    for block, counts in zip(rows[:].tolist(), counted.tolist(), strict=True):
        assert counts == [*blocks[tuple(block)], False]
    plain = read(chat_data("chat.jsonl", "all"), tmp_path, **size)
    assert torch.equal(plain[:], rows[:]) and plain.learned(slice(None)) is None
    assert plain.digest() != rows.digest()


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
    problem = failure(chat_data("chat.jsonl"), tmp_path)
    assert problem.code == "E1211" and "chat.jsonl:2`" in problem.message and said in problem.message


def test_other_forms_of_messages(tmp_path: Path) -> None:
    """ShareGPT's names, contents in parts, and fields that are null."""
    names = {"user": "human", "assistant": "gpt"}
    sharegpt = [{"from": names[m["role"]], "value": m["content"]} for m in LONG]
    parts = [{**m, "content": [{"type": "text", "text": m["content"]}], "name": None} for m in LONG]
    found = set()
    for number, chat in enumerate((LONG, sharegpt, parts)):
        write_chats(tmp_path / f"{number}.jsonl", [chat])  # type: ignore[list-item]
        found.add(read(chat_data(f"{number}.jsonl"), tmp_path, tokens=40).digest())
    assert len(found) == 1


def test_conversations_without_answers(tmp_path: Path) -> None:
    write_chats(tmp_path / "chat.jsonl", [[QUESTION], [MORE]])
    problem = failure(chat_data("chat.jsonl"), tmp_path)
    assert problem.code == "E1213" and "no conversation has an answer" in problem.message
    write_chats(tmp_path / "other.jsonl", [LONG], "chat")
    assert failure(chat_data("other.jsonl"), tmp_path).code == "E1203"


def test_a_mix_of_text_and_answers_counts_all_of_the_text(tmp_path: Path) -> None:
    """Blocks of the text count but for their last position, those of chats by their answers, in any order that the seed gives."""
    (tmp_path / "t.txt").write_text("\n\n".join(f"note {i}" for i in range(40)))
    chats = [[QUESTION, ANSWER, {"role": "user", "content": f"{i}?"}, END] for i in range(9)]
    write_chats(tmp_path / "chat.jsonl", chats)
    sources = {"t": nodes.TextData(paths=("t.txt",)), "c": chat_data("chat.jsonl").source}
    parts = tuple(nodes.MixPart(name=n, weight=1, source=source) for n, source in sources.items())  # type: ignore[arg-type]
    mixed = nodes.Data(name="m", source=nodes.MixData(parts=parts), where=WHERE)
    size = {"context": 8, "tokens": 8 * 40}
    rows = read(mixed, tmp_path, **size)
    counted = rows.learned(slice(None))
    assert counted is not None and not counted[:, -1].any()
    of_text, of_chats = counted[::2], counted[1::2]
    assert of_text[:, :-1].all() and 0 < of_chats.float().mean() < 0.6
    alone = read(chat_data("chat.jsonl"), tmp_path, context=8, tokens=8 * 20)
    assert torch.equal(alone[:], rows[:][1::2]) and torch.equal(alone.learned(slice(None)), of_chats)
    again = read(mixed, tmp_path, cache="again", **size)
    assert again.digest() == rows.digest() and again.part(3, 9).digest() == rows.part(3, 9).digest()
