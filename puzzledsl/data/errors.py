"""Diagnostics of reading text."""

from puzzledsl.base.diagnostics import Mistake

DataMissing = Mistake(
    "E1201",
    "data `{name}`: no file matches `{pattern}` in `{base}`",
    "paths start at the `.pzl` file's directory; correct the path or put the files there",
)
DataUnreadable = Mistake("E1202", "data `{name}`: cannot read `{file}`: {reason}", "{fix}")
ColumnMissing = Mistake(
    "E1203", "data `{name}`: `{file}` has no text in column `{column}` ({place})", "columns there: {columns}"
)
NotEnoughText = Mistake(
    "E1204",
    "data `{name}` has {got} tokens of text; {needed} are needed ({blocks} blocks of {context})",
    "add text, or ask for at most {got} tokens in all",
)
MixTooShort = Mistake(
    "E1208",
    "data `{name}` draws {needed} tokens from `{part}`, which has {got}",
    "add text to `{part}`, lower its weight, or ask for at most {most} tokens in all",
)
LibraryNotInstalled = Mistake(
    "E1205",
    "data `{name}` needs the Python package `{package}`, which is not installed",
    '`pip install {package}` (`puzzledsl[data]` has it), or save it as files and use `text("…")` or `jsonl("…")`',
)
NoChatTemplate = Mistake(
    "E1210",
    "data `{name}` has conversations, but the parent's tokenizer has no chat template",
    "put the template into `chat_template.jinja` beside the parent's tokenizer, or write conversations as text",
)
BadConversation = Mistake(
    "E1211",
    "data `{name}`: `{file}:{number}` has no conversation in `{field}`: {reason}",
    'a conversation looks like [{{"role": "user", "content": "2 + 2?"}}, {{"role": "assistant", "content": "4"}}]',
)
TemplateRefuses = Mistake(
    "E1212",
    "data `{name}`: the parent's chat template refuses the conversation `{at}`: {reason}",
    "correct the conversation, or leave it out",
)
AnswersNotFound = Mistake(
    "E1213",
    "data `{name}`: `loss: answers` finds no answers: {reason}",
    "write `loss: all`, or data with answers that the template shows",
)
NoDocuments = Mistake("E1214", "data `{name}` has no text: {reason}", "add text, or name other files")
TasksMissing = Mistake(
    "E1206",
    "cannot read the tasks `{file}`: {reason}",
    "paths start at the `.pzl` file's directory; without questions bound `kl` in place of `kept`",
)
BadTask = Mistake(
    "E1207",
    "line {line} of `{file}` is no multiple-choice item: {reason}",
    'a line looks like {{"context": "2 + 2 is", "choices": ["four", "five"], "answer": 0}}',
)
FileMissing = Mistake(
    "W1209",
    "no file matches `{pattern}`, needed by {readers}",
    "paths start at the program's directory: correct the path, or put the files there before `pzl run`; "
    "`pzl check --allow W1209` leaves this out",
)
EvaluatedOnTrainingText = Mistake(
    "W1216",
    "eval `{name}` measures on `{text}`, which {readers} learn from",
    "hold documents out: `part: 0%..95%` of the files to train on, `part: 95%..100%` of them to measure on",
)
PromptsUnreadable = Mistake(
    "E1220",
    "cannot read the prompts `{file}`: {reason}",
    "paths start at the `.pzl` file's directory; a `.txt` file has blank lines between prompts",
)
BadPrompt = Mistake(
    "E1221",
    "{place} is no prompt: {reason}",
    'a line looks like {{"prompt": "Why is it so?"}} or {{"messages": [{{"role": "user", "content": "Hi"}}]}}',
)
