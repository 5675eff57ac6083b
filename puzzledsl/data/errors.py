"""Diagnostics of reading text."""

from __future__ import annotations

from puzzledsl.base.diagnostics import Diagnostic


class DataMissing(Diagnostic):
    """No file matches.

    Globs start at the program's directory.

    Wrong:
        data d = text("corpus/*.text")
    Right:
        data d = text("corpus/*.txt")
    """

    code = "E1201"
    template = "data `{name}`: no file matches `{pattern}` in `{base}`"
    help_template = "paths start at the `.pzl` file's directory; correct the path or put the files there"


class DataUnreadable(Diagnostic):
    """A file is damaged or has another format than declared.

    The file exists, but its content does not match the declaration.

    Wrong:
        data d = jsonl("corpus.csv", column: text)
    Right:
        data d = jsonl("corpus.jsonl", column: text)
    """

    code = "E1202"
    template = "data `{name}`: cannot read `{file}`: {reason}"
    help_template = "{fix}"


class ColumnMissing(Diagnostic):
    """A record lacks the column that holds the text.

    Every record needs text in the column that the declaration names.

    Wrong:
        data d = jsonl("corpus.jsonl", column: body)
    Right:
        data d = jsonl("corpus.jsonl", column: text)
    """

    code = "E1203"
    template = "data `{name}`: `{file}` has no text in column `{column}` ({place})"
    help_template = "columns there: {columns}"


class NotEnoughText(Diagnostic):
    """The text is shorter than the budget.

    `tokens`, `samples` and `calibration` are budgets that the text must fill; text is never repeated.

    Wrong:
        bld pieces of w { train = attention + ffn, tokens = 1B }
    Right:
        bld pieces of w { train = attention + ffn, tokens = 1M }
    """

    code = "E1204"
    template = "data `{name}` has {got} tokens of text; {needed} are needed ({blocks} blocks of {context})"
    help_template = "add text, or ask for at most {got} tokens in all"


class MixTooShort(NotEnoughText):
    """A text of a mix is shorter than its share of the budget.

    A mix draws its blocks in the given proportions and repeats no text: the text that is shortest for its weight
    limits all of them.

    Wrong:
        data corpus = text("corpus/*.txt")
        data stories = text("stories.txt")           # a short one
        data mixed = mix(corpus: 1, stories: 1)
    Right:
        data corpus = text("corpus/*.txt")
        data stories = text("stories.txt")
        data mixed = mix(corpus: 9, stories: 1)
    """

    code = "E1208"
    template = "data `{name}` draws {needed} tokens from `{part}`, which has {got}"
    help_template = "add text to `{part}`, lower its weight, or ask for at most {most} tokens in all"


class LibraryNotInstalled(Diagnostic):
    """A data format needs a package that is not installed.

    Data sets of the hub and Parquet files need packages that pzl does not require.

    Wrong:
        data d = hf("wikitext", split: train, column: text)     # without the package `datasets`
    Right:
        $ pip install datasets
    """

    code = "E1205"
    template = "data `{name}` needs the Python package `{package}`, which is not installed"
    help_template = '`pip install {package}` (`puzzledsl[data]` has it), or save it as files and use `text("…")` or `jsonl("…")`'


class NoChatTemplate(Diagnostic):
    """Conversations for a parent whose tokenizer has no chat template.

    A chat template writes messages as the text that the parent was trained on. Base models often have none.

    Wrong:
        parent p = hf("org/base-model")
        data d = jsonl("chat.jsonl", messages: messages)
    Right:
        parent p = hf("org/chat-model")
        data d = jsonl("chat.jsonl", messages: messages)
    """

    code = "E1210"
    template = "data `{name}` has conversations, but the parent's tokenizer has no chat template"
    help_template = "put the template into `chat_template.jinja` beside the parent's tokenizer, or write conversations as text"


class BadConversation(Diagnostic):
    """A record that is no conversation.

    A conversation is a list of messages, each with a `role` and a text in `content`. ShareGPT's `from` and `value` are read
    as well.

    Wrong:
        {"messages": [{"role": "asistant", "content": "Hello!"}]}
    Right:
        {"messages": [{"role": "assistant", "content": "Hello!"}]}
    """

    code = "E1211"
    template = "data `{name}`: `{file}:{number}` has no conversation in `{field}`: {reason}"
    help_template = 'a conversation looks like [{{"role": "user", "content": "2 + 2?"}}, {{"role": "assistant", "content": "4"}}]'


class TemplateRefuses(Diagnostic):
    """The parent's chat template refuses a conversation.

    Many templates want turns of user and assistant that alternate, or know no system message.

    Wrong:
        {"messages": [{"role": "assistant", "content": "Hello!"}]}
    Right:
        {"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello!"}]}
    """

    code = "E1212"
    template = "data `{name}`: the parent's chat template refuses the conversation `{at}`: {reason}"
    help_template = "correct the conversation, or leave it out"


class AnswersNotFound(Diagnostic):
    """Answers of the assistant that cannot be told from the rest.

    `loss: answers` trains on the assistant's content alone. The chat template must write a conversation turn by turn, or mark
    answers itself (`{% generation %}`), and some conversation must have an answer.

    Wrong:
        data d = jsonl("questions.jsonl", messages: messages, loss: answers)    # without answers
    Right:
        data d = jsonl("chat.jsonl", messages: messages, loss: answers)
    """

    code = "E1213"
    template = "data `{name}`: `loss: answers` finds no answers: {reason}"
    help_template = "write `loss: all`, or data with answers that the template shows"


class NoDocuments(Diagnostic):
    """A source without any text.

    Files are there, but nothing in them is a document of this source.

    Wrong:
        data d = text("corpus/*.txt", part: 0%..0.001%)
    Right:
        data d = text("corpus/*.txt", part: 0%..95%)
    """

    code = "E1214"
    template = "data `{name}` has no text: {reason}"
    help_template = "add text, or name other files"


class TasksMissing(Diagnostic):
    """A task file cannot be read.

    A task file is JSON lines; its path starts at the program's directory.

    Wrong:
        eval e of s = tasks("hellaswag.json")
    Right:
        eval e of s = tasks("hellaswag.jsonl")
    """

    code = "E1206"
    template = "cannot read the tasks `{file}`: {reason}"
    help_template = "paths start at the `.pzl` file's directory"


class BadTask(Diagnostic):
    """A line of a task file is not a valid item.

    An item has a context, two or more choices, and the index of the right one.

    Wrong:
        {"question": "2 + 2", "answer": "four"}
    Right:
        {"context": "2 + 2 is", "choices": ["four", "five"], "answer": 0}
    """

    code = "E1207"
    template = "line {line} of `{file}` is no multiple-choice item: {reason}"
    help_template = 'a line looks like {{"context": "2 + 2 is", "choices": ["four", "five"], "answer": 0}}'


class FileMissing(Diagnostic):
    """A text file that a later stage reads and that is not there.

    `pzl check` needs no text, so this is no error. Training, scoring and evaluation would stop for it. Where programs are
    checked without their texts, as in continuous integration, `pzl check --deny warnings --allow W1209` leaves it out.

    Wrong:
        data d = text("corpus/*.text")
        bld pieces of w { tokens = 1M, data = d }
    Right:
        data d = text("corpus/*.txt")
        bld pieces of w { tokens = 1M, data = d }
    """

    code = "W1209"
    severity = "warning"
    template = "no file matches `{pattern}`, needed by {readers}"
    help_template = (
        "paths start at the program's directory: correct the path, or put the files there before `pzl run`; "
        "`pzl check --allow W1209` leaves this out"
    )


class TemplateNotThere(Diagnostic):
    """Conversations for a parent without a chat template, found before a run.

    The parent's directory is there, and has a tokenizer without a chat template. `pzl run` would stop for it (E1210).

    Wrong:
        parent p = hf("./base-model")
        data d = jsonl("chat.jsonl", messages: messages)
        bld pieces of w { tokens = 1M, data = d }
    Right:
        parent p = hf("./chat-model")
        data d = jsonl("chat.jsonl", messages: messages)
        bld pieces of w { tokens = 1M, data = d }
    """

    code = "W1215"
    severity = "warning"
    template = "data `{name}` has conversations, but `{path}` has no chat template, needed by {readers}"
    help_template = "put the template into `{path}/chat_template.jinja`, or write conversations as text"


class EvaluatedOnTrainingText(Diagnostic):
    """An evaluation on documents that training reads.

    Pieces, healing and uptraining fit the child to their text. Its figures there say little about other text.

    Wrong:
        data d = jsonl("notes.jsonl")
        uptrain final of s { tokens = 1M, data = d }
        eval e of final { data = d }
    Right:
        data d = jsonl("notes.jsonl", part: 0%..95%)
        data heldout = jsonl("notes.jsonl", part: 95%..100%)
        uptrain final of s { tokens = 1M, data = d }
        eval e of final { data = heldout }
    """

    code = "W1216"
    severity = "warning"
    template = "eval `{name}` measures on `{text}`, which {readers} learn from"
    help_template = "hold documents out: `part: 0%..95%` of the files to train on, `part: 95%..100%` of them to measure on"


class PromptsUnreadable(Diagnostic):
    """A file of prompts that cannot be read, or that has no prompt.

    Its path starts at the program's directory. A `.txt` file has blank lines between prompts, a `.jsonl` file one prompt a line.

    Wrong:
        eval e of s { prompts = "promts.txt" }
    Right:
        eval e of s { prompts = "prompts.txt" }
    """

    code = "E1220"
    template = "cannot read the prompts `{file}`: {reason}"
    help_template = (
        "paths start at the `.pzl` file's directory; a `.txt` file has blank lines between prompts"
    )


class BadPrompt(Diagnostic):
    """A line of a file of prompts that is no prompt, or a prompt that the parent cannot be asked.

    A line is a JSON object with a `prompt`, which is a text, or with `messages`, a chat that the parent's tokenizer has a
    template for.

    Wrong:
        {"question": "Why is the sky blue?"}
    Right:
        {"prompt": "Why is the sky blue?"}
    """

    code = "E1221"
    template = "{place} is no prompt: {reason}"
    help_template = 'a line looks like {{"prompt": "Why is it so?"}} or {{"messages": [{{"role": "user", "content": "Hi"}}]}}'


class NotSampled(Diagnostic):
    """Text that a parent is to write, and that is not written yet.

    `pzl run` and `pzl sample` write it; other commands read it.

    Wrong:
        $ pzl bld wide.pzl             # whose text is sampled
    Right:
        $ pzl sample wide.pzl
        $ pzl bld wide.pzl
    """

    code = "E1222"
    template = "parent `{parent}` has not written the text of `{name}` yet"
    help_template = "run `pzl sample FILE` first, or `pzl run FILE` for everything in order"
