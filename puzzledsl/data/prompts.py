"""Prompts for a model: texts and chats, from a file or from the program, and their tokens.

A text is asked as a user's message where the tokenizer has a chat template; without one it is continued.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from puzzledsl.base.diagnostics import DiagnosticError, Span
from puzzledsl.data.errors import BadPrompt, PromptsUnreadable
from puzzledsl.data.sources.local_files import paragraphs


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt: the last message's text, and the chat that it ends (`role`, `content`). `place` names it in diagnostics."""

    text: str
    messages: tuple[dict[str, str], ...]
    place: str

    @classmethod
    def of(cls, text: str, place: str) -> Asked:
        """Return a prompt of one message."""
        return cls(text, ({"role": "user", "content": text},), place)

    def ids(self, tokenizer: Any, span: Span | None) -> list[int]:
        """Return its tokens, behind which the answer begins. Raises DiagnosticError (BadPrompt) without a template for a chat."""
        if not getattr(tokenizer, "chat_template", None):
            if len(self.messages) > 1 or self.messages[0]["role"] != "user":
                raise DiagnosticError(self._bad("the parent's tokenizer has no chat template", span))
            ids = list(tokenizer(self.text)["input_ids"])
            return ids[:-1] if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id else ids
        try:
            text = tokenizer.apply_chat_template(
                list(self.messages), tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # a template is a program, and refuses chats in its own ways
            reason = f"the chat template refuses it ({str(error).partition(chr(10))[0]})"
            raise DiagnosticError(self._bad(reason, span)) from error
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def too_long(self, tokens: int, limit: int, span: Span | None) -> BadPrompt:
        """Return the diagnostic of a prompt behind which no answer has room."""
        return self._bad(f"it has {tokens:,} tokens, and at most {limit:,} leave room for an answer", span)

    def _bad(self, reason: str, span: Span | None) -> BadPrompt:
        return BadPrompt(span, place=self.place, reason=reason)


def prompts_of_program(texts: Sequence[str]) -> tuple[Asked, ...]:
    """Return the prompts that stand in a program."""
    return tuple(Asked.of(text, f"prompt {number}") for number, text in enumerate(texts, 1))


def prompts_of_file(path: Path, span: Span | None) -> tuple[Asked, ...]:
    """Return the prompts of a `.jsonl` or `.txt` file. Raises DiagnosticError (PromptsUnreadable, BadPrompt), at `span`."""
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise DiagnosticError(PromptsUnreadable(span, file=path, reason=reason)) from error
    lines = content.splitlines(keepends=True)
    if path.suffix == ".jsonl":
        found = tuple(_of_lines(path, lines, span))
    else:
        texts = enumerate(paragraphs(lines), 1)
        found = tuple(Asked.of(text, f"prompt {number} of `{path}`") for number, text in texts)
    if not found:
        raise DiagnosticError(PromptsUnreadable(span, file=path, reason="it has no prompt"))
    return found


def _of_lines(path: Path, lines: Sequence[str], span: Span | None) -> Iterator[Asked]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            place = f"line {number} of `{path}`"
            try:
                yield _asked(json.loads(line), place)
            except ValueError as error:
                reason = f"not JSON ({error})" if isinstance(error, json.JSONDecodeError) else str(error)
                raise DiagnosticError(BadPrompt(span, place=place, reason=reason)) from error


def _asked(record: Any, place: str) -> Asked:
    """Read one line. Raises ValueError with the reason."""
    if not isinstance(record, dict):
        raise ValueError("it is no JSON object")
    if isinstance(text := record.get("prompt"), str) and text.strip():
        return Asked.of(text, place)
    if "messages" not in record:
        raise ValueError("it has no `prompt`" if "prompt" not in record else "its `prompt` is no text")
    chat = record["messages"]
    if not isinstance(chat, list) or not chat or not all(map(_is_message, chat)):
        raise ValueError("`messages` are objects with texts as `role` and `content`")
    if chat[-1]["role"] == "assistant":
        raise ValueError("its last message is the answer")
    messages = tuple({"role": m["role"], "content": m["content"]} for m in chat)
    return Asked(messages[-1]["content"], messages, place)


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in ("role", "content"))
