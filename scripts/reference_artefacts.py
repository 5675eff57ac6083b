"""docs/artefacts.md and docs/schema/: every JSON file that puzzledsl writes, from the models in `puzzledsl.cli.schemas`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from puzzledsl.cli.schemas import COMMANDS, DESCRIBED, FILES, OTHERS, Described
from puzzledsl.ir.tables.evaluations import MEASURES


def schemas() -> dict[str, str]:
    """Return the published schemas: file name in docs/schema -> text."""
    return {f"{each.name}.schema.json": text_of(each) for each in DESCRIBED.values()}


def text_of(each: Described) -> str:
    """Return a schema as its file has it."""
    return json.dumps(each.schema(), indent=1, sort_keys=True) + "\n"


def artefacts(made: str) -> Iterator[str]:
    """Yield the page: tables of files, with the schema of each, which says what fields mean."""
    yield f"# Artefacts\n\n{made} Every JSON file that puzzledsl writes has a published schema (JSON Schema 2020-12),"
    yield "which says what each field means, and which `pzl schema NAME` prints."
    yield "Documents are UTF-8. `format_version` changes its first number when an old file cannot be read any more.\n"
    yield "In JSON lines the schema is that of one line. A sealed line ends with a tab and the first 16 digits of its SHA-256."
    yield "Files of `work/` and `tokens/` have the SHA-256 of their content at their end.\n"
    yield "## Files of a build directory\n"
    yield from _table("file", FILES)
    yield "Not JSON:\n"
    yield "| file | content |\n|---|---|"
    yield from (f"| `{path}` | {text} |" for path, text in OTHERS.items())
    yield "\nMeasures of a text, in `evals/NAME.json` and in reports:\n"
    yield "| measure | meaning |\n|---|---|"
    yield from (f"| `{each.name}` | {each.doc} |" for each in MEASURES.values())
    yield "\n## Outputs\n\n`--json` of some commands prints the content of a file; help says what others print.\n"
    yield "| command | schema |\n|---|---|"
    yield from (
        f"| `pzl {said}` | [`{name}`](schema/{name}.schema.json) |" for name, said in COMMANDS.items()
    )


def _table(what: str, described: Iterable[Described]) -> Iterator[str]:
    yield f"| {what} | schema | content |\n|---|---|---|"
    for each in described:
        link = f"[`{each.name}`](schema/{each.name}.schema.json)"
        form = "" if each.form == "JSON" else f" {each.form[0].upper()}{each.form[1:]}."
        yield f"| `{each.place}` | {link} | {cell(each.text)}{form} |"
    yield ""


def cell(text: str) -> str:
    """Return a text for a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
