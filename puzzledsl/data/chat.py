"""Conversations and prompts as a parent reads them: its tokenizer's chat template, and where in the result its answers are.

An answer is what the template writes for a message of the assistant, up to the token that ends its turn. A template that marks
answers itself (`{% generation %}`) is believed. Elsewhere, an answer begins where the generation prompt for the messages before
it ends, and it ends where the conversation up to it does. A prompt is asked as a user's message where there is a template, and
continued where there is none.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from puzzledsl.base.diagnostics import DiagnosticError, Span
from puzzledsl.base.frozen import Record
from puzzledsl.data import errors
from puzzledsl.data.documents import Conversation, Message, Place, TokenDocument, paragraphs

ASSISTANT = "assistant"
THOUGHTS_END = "</think>"
TODAY = datetime(2024, 7, 26)
"""The day of templates that write today's date: text is the same whenever it is made."""
DATES = "aAbBdHIjmMpSyY"  # letters of date formats


class ChatWriter:
    """Writes conversations in a tokenizer's chat template; with `answers`, losses count the tokens of answers alone."""

    def __init__(self, place: Place, tokenizer: Any, *, answers: bool) -> None:
        """Raise DiagnosticError: NoChatTemplate; AnswersNotFound if neither template nor tokenizer can locate `answers`."""
        if not has_template(tokenizer):
            raise DiagnosticError(errors.NoChatTemplate(place.span, name=place.name))
        self._place, self._tokenizer, self._answers = place, tokenizer, answers
        self._written_in = dated(template_of(tokenizer))
        self._marks_answers = "{% generation" in self._written_in.replace("{%-", "{%")
        if answers and not self._marks_answers and not tokenizer.is_fast:
            raise self._not_found("its tokenizer does not tell where its tokens stand", "")

    def write(self, conversations: Sequence[Conversation]) -> Iterator[TokenDocument]:
        """Yield the tokens of each conversation. Raises DiagnosticError (TemplateRefuses, AnswersNotFound)."""
        if self._answers and self._marks_answers:
            yield from map(self._marked, conversations)
            return
        texts = [self._rendered(each, each.messages) for each in conversations]
        offsets = {"return_offsets_mapping": True} if self._answers else {}
        plain = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
        found = self._tokenizer(texts, **plain, **offsets)
        for number, (each, text) in enumerate(zip(conversations, texts, strict=True)):
            ids, learned = found["input_ids"][number], None
            if self._answers:
                answers = self._answers_in(each, text)
                learned = [_within(place, answers) for place in found["offset_mapping"][number]]
            yield TokenDocument(ids, learned)

    def _marked(self, each: Conversation) -> TokenDocument:
        how = {"tokenize": True, "return_dict": True, "return_assistant_tokens_mask": True}
        found = self._template(each, each.messages, **how)
        return TokenDocument(found["input_ids"], [bool(m) for m in found["assistant_masks"]])

    def _answers_in(self, each: Conversation, text: str) -> list[tuple[int, int]]:
        """Return the first and the last character, exclusive, of each answer in a rendered conversation."""
        found = []
        for i, message in enumerate(each.messages):
            if message["role"] == ASSISTANT:
                opening = text[: text.find(message["content"].strip())]  # of one that begins with an answer
                before = self._rendered(each, each.messages[:i], prompt=True) if i else opening
                if not text.startswith(before):
                    raise self._not_found("the template does not write a conversation turn by turn", each.at)
                found.append((len(before), self._end(each, i, text, len(before))))
        return found

    def _end(self, each: Conversation, i: int, text: str, begin: int) -> int:
        """Return the end in `text` of message `i`, an answer that begins at `begin`; the end-of-turn token belongs to it.

        The conversation up to it shows its text. Most templates write the same where messages follow; some leave out its
        thoughts there, and write the rest the same. Raises DiagnosticError (AnswersNotFound) for any other template.
        """
        alone = self._rendered(each, each.messages[: i + 1]).rstrip()[begin:]
        if text.startswith(alone, begin):
            return begin + len(alone)
        words = alone.rpartition(THOUGHTS_END)[2].lstrip()
        behind = text[begin:].lstrip()
        if behind.startswith(words):
            return len(text) - len(behind) + len(words)
        raise self._not_found("the template writes an answer otherwise where others follow", each.at)

    def _rendered(self, each: Conversation, messages: Sequence[Message], *, prompt: bool = False) -> str:
        return str(self._template(each, messages, tokenize=False, add_generation_prompt=prompt))

    def _template(self, each: Conversation, messages: Sequence[Message], **how: Any) -> Any:
        try:
            return self._tokenizer.apply_chat_template(list(messages), chat_template=self._written_in, **how)
        except Exception as error:  # jinja2's own errors, and any error that a template raises
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            where, name = self._place.span, self._place.name
            raise DiagnosticError(
                errors.TemplateRefuses(where, name=name, at=each.at, reason=reason)
            ) from error

    def _not_found(self, reason: str, at: str) -> DiagnosticError:
        shown = f"{reason} (`{at}`)" if at else reason
        return DiagnosticError(errors.AnswersNotFound(self._place.span, name=self._place.name, reason=shown))


def has_template(tokenizer: Any) -> bool:
    """Return True if the tokenizer has a chat template."""
    return bool(getattr(tokenizer, "chat_template", None))


def dated(template: str) -> str:
    """Return the template with the date fixed to TODAY: a macro replaces the function `strftime_now` that it calls."""
    if "strftime_now" not in template:
        return template
    replaced = "".join(f" | replace('%{letter}', '{TODAY.strftime('%' + letter)}')" for letter in DATES)
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{replaced} }}}}{{%- endmacro -%}}{template}"


def template_of(tokenizer: Any) -> str:
    """Return the text of a tokenizer's chat template; empty without one."""
    return str(tokenizer.get_chat_template()) if has_template(tokenizer) else ""


def _within(place: tuple[int, int], answers: Sequence[tuple[int, int]]) -> bool:
    """Return True for a token with a character in an answer; a token that spans prompt and answer belongs to the answer."""
    first, last = place
    return any(first < end and last > begin for begin, end in answers)


class Asked(Record):
    """A prompt: the last message's text, and the chat that it ends (`role`, `content`). `place` names it in diagnostics."""

    text: str
    messages: tuple[dict[str, str], ...]
    place: str

    @classmethod
    def of(cls, text: str, place: str) -> Self:
        """Return a prompt of one message."""
        return cls(text, ({"role": "user", "content": text},), place)

    def ids(self, tokenizer: Any, span: Span | None) -> list[int]:
        """Return the tokens that a model answers. Raises DiagnosticError (BadPrompt): no template for a chat, or it refuses."""
        if not has_template(tokenizer):
            if len(self.messages) > 1 or self.messages[0]["role"] != "user":
                raise self.bad("the parent's tokenizer has no chat template", span)
            ids = list(tokenizer(self.text)["input_ids"])
            return ids[:-1] if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id else ids
        try:
            how = {"tokenize": False, "add_generation_prompt": True}
            text = tokenizer.apply_chat_template(list(self.messages), **how)
        except Exception as error:  # a template is a program, and refuses chats in its own ways
            reason = f"the chat template refuses it ({str(error).partition(chr(10))[0]})"
            raise self.bad(reason, span) from error
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def bad(self, reason: str, span: Span | None) -> DiagnosticError:
        """Return the error of a prompt that cannot be asked."""
        return DiagnosticError(errors.BadPrompt(span, place=self.place, reason=reason))


def prompts_of_file(path: Path, span: Span | None) -> tuple[Asked, ...]:
    """Return the prompts of a `.jsonl` or `.txt` file. Raises DiagnosticError (PromptsUnreadable, BadPrompt), at `span`."""
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise DiagnosticError(errors.PromptsUnreadable(span, file=path, reason=reason)) from error
    lines = content.splitlines(keepends=True)
    if path.suffix == ".jsonl":
        found = tuple(_of_lines(path, lines, span))
    else:
        texts = enumerate(paragraphs(lines), 1)
        found = tuple(Asked.of(text, f"prompt {number} of `{path}`") for number, text in texts)
    if not found:
        raise DiagnosticError(errors.PromptsUnreadable(span, file=path, reason="it has no prompt"))
    return found


def _of_lines(path: Path, lines: Sequence[str], span: Span | None) -> Iterator[Asked]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            place = f"line {number} of `{path}`"
            try:
                yield _asked(json.loads(line), place)
            except ValueError as error:
                reason = f"not JSON ({error})" if isinstance(error, json.JSONDecodeError) else str(error)
                raise DiagnosticError(errors.BadPrompt(span, place=place, reason=reason)) from error


def _asked(record: Any, place: str) -> Asked:
    """Return the prompt of one JSON record. Raises ValueError with the reason if it has none."""
    if not isinstance(record, dict):
        raise ValueError("it is no JSON object")
    if isinstance(text := record.get("prompt"), str) and text.strip():
        return Asked.of(text, place)
    if "messages" not in record:
        raise ValueError("it has no `prompt`" if "prompt" not in record else "its `prompt` is no text")
    chat = record["messages"]
    objects = [m for m in chat if isinstance(m, dict)] if isinstance(chat, list) else []
    texts = [[m.get(key) for key in ("role", "content")] for m in objects]
    if not texts or len(texts) < len(chat) or not all(isinstance(text, str) for m in texts for text in m):
        raise ValueError("`messages` are objects with texts as `role` and `content`")
    if chat[-1]["role"] == "assistant":
        raise ValueError("its last message is the answer")
    messages = tuple({"role": m["role"], "content": m["content"]} for m in chat)
    return Asked(messages[-1]["content"], messages, place)
