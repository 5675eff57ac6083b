"""Diagnostics of reading text."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class DataMissing(Diagnostic, code="E1201"):
    """No file matches."""

    template = "data `{name}`: no file matches `{pattern}` in `{base}`"
    help_template = "paths start at the `.pzl` file's directory; correct the path or put the files there"


class DataUnreadable(Diagnostic, code="E1202", template="data `{name}`: cannot read `{file}`: {reason}"):
    """A file is damaged or has another format than declared."""

    help_template = "{fix}"


class ColumnMissing(Diagnostic, code="E1203"):
    """A record lacks the column that holds the text."""

    template = "data `{name}`: `{file}` has no text in column `{column}` ({place})"
    help_template = "columns there: {columns}"


class NotEnoughText(Diagnostic, code="E1204"):
    """The text is shorter than the budget."""

    template = "data `{name}` has {got} tokens of text; {needed} are needed ({blocks} blocks of {context})"
    help_template = "add text, or ask for at most {got} tokens in all"


class MixTooShort(NotEnoughText, code="E1208"):
    """A text of a mix is shorter than its share of the budget."""

    template = "data `{name}` draws {needed} tokens from `{part}`, which has {got}"
    help_template = "add text to `{part}`, lower its weight, or ask for at most {most} tokens in all"


class LibraryNotInstalled(Diagnostic, code="E1205"):
    """A data format needs a package that is not installed."""

    template = "data `{name}` needs the Python package `{package}`, which is not installed"
    help_template = '`pip install {package}` (`puzzledsl[data]` has it), or save it as files and use `text("…")` or `jsonl("…")`'


class NoChatTemplate(Diagnostic, code="E1210"):
    """Conversations for a parent whose tokenizer has no chat template."""

    template = "data `{name}` has conversations, but the parent's tokenizer has no chat template"
    help_template = "put the template into `chat_template.jinja` beside the parent's tokenizer, or write conversations as text"


class BadConversation(Diagnostic, code="E1211"):
    """A record that is no conversation."""

    template = "data `{name}`: `{file}:{number}` has no conversation in `{field}`: {reason}"
    help_template = 'a conversation looks like [{{"role": "user", "content": "2 + 2?"}}, {{"role": "assistant", "content": "4"}}]'


class TemplateRefuses(Diagnostic, code="E1212"):
    """The parent's chat template refuses a conversation."""

    template = "data `{name}`: the parent's chat template refuses the conversation `{at}`: {reason}"
    help_template = "correct the conversation, or leave it out"


class AnswersNotFound(Diagnostic, code="E1213"):
    """Answers of the assistant that cannot be told from the rest."""

    template = "data `{name}`: `loss: answers` finds no answers: {reason}"
    help_template = "write `loss: all`, or data with answers that the template shows"


class NoDocuments(Diagnostic, code="E1214", template="data `{name}` has no text: {reason}"):
    """A source without any text."""

    help_template = "add text, or name other files"


class TasksMissing(Diagnostic, code="E1206", template="cannot read the tasks `{file}`: {reason}"):
    """A task file cannot be read."""

    help_template = (
        "paths start at the `.pzl` file's directory; judges and evaluations work without questions, too"
    )


class BadTask(Diagnostic, code="E1207"):
    """A line of a task file is not a valid item."""

    template = "line {line} of `{file}` is no multiple-choice item: {reason}"
    help_template = 'a line looks like {{"context": "2 + 2 is", "choices": ["four", "five"], "answer": 0}}'


class FileMissing(Diagnostic, code="W1209", template="no file matches `{pattern}`, needed by {readers}"):
    """A text file that a later stage reads and that is not there."""

    help_template = (
        "paths start at the program's directory: correct the path, or put the files there before `pzl run`; "
        "`pzl check --allow W1209` leaves this out"
    )


class EvaluatedOnTrainingText(Diagnostic, code="W1216"):
    """An evaluation on documents that training reads."""

    template = "eval `{name}` measures on `{text}`, which {readers} learn from"
    help_template = "hold documents out: `part: 0%..95%` of the files to train on, `part: 95%..100%` of them to measure on"


class PromptsUnreadable(Diagnostic, code="E1220", template="cannot read the prompts `{file}`: {reason}"):
    """A file of prompts that cannot be read, or that has no prompt."""

    help_template = (
        "paths start at the `.pzl` file's directory; a `.txt` file has blank lines between prompts"
    )


class BadPrompt(Diagnostic, code="E1221", template="{place} is no prompt: {reason}"):
    """A line of a file of prompts that is no prompt, or a prompt that the parent cannot be asked."""

    help_template = 'a line looks like {{"prompt": "Why is it so?"}} or {{"messages": [{{"role": "user", "content": "Hi"}}]}}'
