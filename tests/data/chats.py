"""Conversations, tokenizers with the chat templates that they are written in, and declarations of text."""

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.data.documents import Text, documents
from puzzledsl.data.streams import TokenRows, token_rows
from puzzledsl.ir import nodes
from puzzledsl.ir.base import Where
from tests.refused import refused
from tests.tiny import tiny_tokenizer

WHERE = Where(file="p.pzl", line=3, column=1, end_line=3, end_column=9)
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKED = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}{% else %}{{ message['content'] }}<|im_end|>{% endif %}"
    "\n{% endfor %}"
)
"""As CHATML; answers are marked."""
THINKING = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""As Qwen3's: the last answer begins with thoughts, those before it have lost theirs."""
QWEN3 = (
    "{%- for message in messages %}{%- set content = message.content %}{%- if message.role == 'assistant' %}"
    "{%- set thoughts = content.split('</think>')[0].split('<think>')[-1].strip('\\n') if '</think>' in content else '' %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\\n') %}"
    "{{- '<|im_start|>assistant\\n' + ('<think>\\n' + thoughts + '\\n</think>\\n\\n' if loop.last else '') + content }}"
    "{%- if message.tool_calls %}{{- '\\n<tool_call>' + message.tool_calls[0].name + '</tool_call>' }}{%- endif %}"
    "{{- '<|im_end|>\\n' }}{%- else %}{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""As Qwen3's: thoughts are taken out of contents, and only the last ones are written."""
STRICT = (
    "{% if messages[0]['role'] != 'user' %}{{ raise_exception('a user speaks first') }}{% endif %}" + CHATML
)
DATED = "{{ strftime_now('%d %b %Y') }}" + CHATML
BACKWARDS = (
    "{% for message in messages | reverse %}{{ message['content'] }}|{% endfor %}"
    "{% if add_generation_prompt %}?{% endif %}"
)

QUESTION, ANSWER = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "It is 4."}
MORE, END = {"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes, 4."}


def chat_tokenizer(template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """The tiny tokenizer with a chat template and the tokens that end a turn."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = template
    return tokenizer


def write_chats(path: Path, chats: list[list[dict[str, str]]], field: str = "messages") -> Path:
    """Write conversations as JSON lines."""
    path.write_text("".join(json.dumps({field: chat}) + "\n" for chat in chats))
    return path


def chat_data(path: str, loss: str = "answers") -> nodes.Data:
    """`data d = jsonl(path, messages: messages, loss: answers)`."""
    return data(nodes.JsonlData(paths=(path,), messages="messages", loss=loss))


def data(source: Any, name: str = "d") -> nodes.Data:
    return nodes.Data(name=name, source=source, where=WHERE)


def text(*paths: str) -> nodes.Data:
    return data(nodes.TextData(paths=paths))


def jsonl(*paths: str, column: str = "text") -> nodes.Data:
    return data(nodes.JsonlData(paths=paths, column=column))


def texts_of(source: nodes.Data, base: Path) -> list[Text]:
    return [document for document in documents(source, base) if isinstance(document, Text)]


def read(
    source: nodes.Data, base: Path, tokenizer: Any = None, *, cache: str = "cache", **sizes: Any
) -> TokenRows:
    """Blocks of four tokens, unless sizes are given."""
    settings = {"context": 4, "tokens": 4, "seed": 0} | sizes
    return token_rows(source, base, tokenizer or chat_tokenizer(), cache=base / cache, **settings)


def failure(source: nodes.Data, base: Path, **sizes: Any) -> Diagnostic:
    """The only diagnostic of reading it, at its declaration."""
    problem = refused(read, source, base, **sizes)
    assert problem.span is not None and problem.span.line == WHERE.line
    return problem
