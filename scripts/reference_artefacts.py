"""docs/artefacts.md and docs/schema/: every JSON document that puzzledsl writes, from the models in `puzzledsl.cli.schemas`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from puzzledsl.cli.schemas import DESCRIBED, FILES, OTHERS, OUTPUTS, Described
from puzzledsl.ir.tables.evaluations import MEASURES


def schemas() -> dict[str, str]:
    """Return the published schemas: file name in docs/schema -> text."""
    return {f"{each.name}.schema.json": text_of(each) for each in DESCRIBED.values()}


def text_of(each: Described) -> str:
    """Return a schema as its file has it."""
    return json.dumps(each.schema(), indent=1, sort_keys=True) + "\n"


def artefacts(made: str) -> Iterator[str]:
    """Yield the page: tables of files and outputs, then the fields of each, then the types that they share."""
    found = {each.name: each.schema() for each in DESCRIBED.values()}
    in_ir = found["ir"]["$defs"].keys()
    types = {
        name: own
        for schema in found.values()
        for name, own in schema.get("$defs", {}).items()
        if name not in in_ir
    }
    links = {name: f"ir.md#{name.lower()}" for name in in_ir} | {name: f"#{name.lower()}" for name in types}
    yield f"# Artefacts\n\n{made} Every JSON document that puzzledsl writes has a published schema (JSON Schema 2020-12),"
    yield "which `pzl schema NAME` prints: the files that stages hand to each other, and what commands print with `--json`."
    yield "Documents are UTF-8. `format_version` changes its first number when an old file cannot be read any more.\n"
    yield "In JSON lines the schema is that of one line. A sealed line ends with a tab and the first 16 digits of its SHA-256."
    yield "Files of `work/` and `tokens/` have the SHA-256 of their content at their end.\n"
    yield "## Files of a build directory\n"
    yield from _table("file", FILES, found)
    yield "Not JSON:\n"
    yield "| file | content |\n|---|---|"
    yield from (f"| `{path}` | {text} |" for path, text in OTHERS.items())
    yield "\nMeasures of a text, in `evals/NAME.json` and in reports:\n"
    yield "| measure | meaning |\n|---|---|"
    yield from (f"| `{each.name}` | {each.doc} |" for each in MEASURES.values())
    yield "\n## Outputs\n\nDocuments that commands print with `--json`, `pzl run` with `--dry-run --json`.\n"
    yield from _table("command", OUTPUTS, found)
    for each in (*FILES, *OUTPUTS):
        yield f"## {each.name}\n"
        yield f"`{each.place}`, {each.form}: [schema](schema/{each.name}.schema.json).\n"
        yield from definition({**found[each.name], "description": each.text}, links)
        if each.name == "ir":
            yield "[The IR](ir.md) has all of its types.\n"
    yield "## Types\n"
    for name, own in sorted(types.items()):
        yield f"### {name}\n"
        yield from definition(own, links)


def _table(what: str, described: Iterable[Described], found: Mapping[str, Any]) -> Iterator[str]:
    yield f"| {what} | name | content |\n|---|---|---|"
    for each in described:
        yield f"| `{each.place}` | [`{each.name}`](#{each.name}) | {cell(each.text)} |"
    yield ""


def definition(own: Mapping[str, Any], links: Mapping[str, str] | None = None) -> Iterator[str]:
    """Yield a type of a JSON schema: its description, its values or alternatives, and a table of its fields."""
    if text := own.get("description"):
        yield cell(" ".join(text.split("\n\n")[0].split())).replace("\\|", "|") + "\n"
    if values := own.get("enum"):
        yield "One of " + ", ".join(f"`{value}`" for value in values) + ".\n"
    properties = own.get("properties", {})
    if properties:
        told = any("description" in kind for kind in properties.values())
        yield "| field | type | meaning |\n|---|---|---|" if told else "| field | type |\n|---|---|"
        for name, kind in properties.items():
            meaning = f" {cell(kind.get('description', ''))} |" if told else ""
            yield f"| `{name}` | {type_of(kind, links)} |{meaning}"
        yield ""
    elif own.get("anyOf") or own.get("type") == "array" or "$ref" in own:
        yield f"It is {type_of(own, links)}.\n"


def cell(text: str) -> str:
    """Return a text for a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def type_of(kind: Mapping[str, Any], links: Mapping[str, str] | None = None) -> str:
    """Return a type in words, with links to the types that it names."""
    if ref := kind.get("$ref"):
        name = ref.rsplit("/", 1)[1]
        return f"[{name}]({(links or {}).get(name, f'#{name.lower()}')})"
    if "const" in kind:
        return f"`{kind['const']}`"
    if options := kind.get("anyOf") or kind.get("oneOf"):
        return " or ".join(type_of(option, links) for option in options)
    if values := kind.get("enum"):
        return ", ".join(f"`{value}`" for value in values)
    match kind.get("type"):
        case "array":
            items = kind.get("items") or kind.get("prefixItems")
            inside = (
                type_of(items, links)
                if isinstance(items, dict)
                else ", ".join(type_of(item, links) for item in items or [])
            )
            return f"list of {inside}"
        case "object":
            inner = kind.get("additionalProperties")
            return "name → " + type_of(inner, links) if isinstance(inner, dict) else "object"
        case str(name):
            return name
        case _:
            return "any"
