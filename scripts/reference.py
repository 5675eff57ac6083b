"""The pages of docs/ that are made from the code. `python scripts/reference.py` writes them; a test holds them equal.

docs/cli.md     every command, from typer's own description of it
docs/errors.md  every code, from the golden files of errors/
docs/std.md     what std/ ships, and what each runtime can run
docs/schema/ir.schema.json  the JSON schema of ir.json
docs/python.md  the Python API, from its docstrings (reference_python.py)
docs/language.md, docs/artefacts.md  their tables alone (reference_language.py)
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import typer
from pydantic import TypeAdapter

from puzzledsl.alternatives.support import Absent, Lowered, Native, Support
from puzzledsl.base.resources import Explanation, resource
from puzzledsl.checker.check import inspect
from puzzledsl.cli.app import PANELS, application
from puzzledsl.cli.commands.explain import all_codes, group_of
from puzzledsl.cli.commands.new import std_parents
from puzzledsl.families.registry import FAMILIES
from puzzledsl.ir.base import FORMAT_VERSION
from puzzledsl.ir.engines import RUNTIMES
from puzzledsl.ir.facts import total_params
from puzzledsl.ir.nodes import Program
from scripts.reference_language import OF_ARTEFACTS, OF_LANGUAGE, with_tables
from scripts.reference_python import python

ROOT = Path(__file__).parents[1]
PARAGRAPH = "\n\n"
MADE = "This page is made from the code: `python scripts/reference.py`."


# ---------------------------------------------------------------- commands


def cli() -> Iterator[str]:
    """A section a command, in the order of `pzl --help`."""
    root = typer.main.get_command(application())
    commands = dict(root.commands)  # type: ignore[attr-defined]
    yield f"# Commands\n\n{MADE} `pzl COMMAND --help` prints the same.\n"
    yield "Exit codes: 0 done, 1 a mistake in the program or its inputs, 2 usage, 70 a fault of pzl, 130 interrupted."
    yield "Results go to stdout, progress and diagnostics to stderr.\n"
    for panel, names in PANELS.items():
        yield f"## {panel}\n"
        for name in names:
            yield from _command(name, commands[name])


def _command(path: str, command: Any) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    words = " ".join(_argument(p) for p in arguments)
    yield (
        f"### pzl {path}\n\n```text\npzl {path}{' [OPTIONS]' if options else ''} {words}".rstrip() + "\n```\n"
    )
    yield from (f"{' '.join(part.split())}\n" for part in (command.help or "").strip().split("\n\n"))
    if arguments or options:
        yield "| option | meaning |\n|---|---|"
        yield from (f"| {_code(_argument(p))} | {_cell(p.help)} |" for p in arguments)
        yield from (f"| {_option(p)} | {_cell(p.help)} |" for p in options)
        yield ""
    lines = [line.strip() for line in (command.epilog or "").splitlines() if line.strip().startswith("pzl ")]
    if lines:
        yield "```text\n" + "\n".join(lines) + "\n```\n"


def _argument(parameter: Any) -> str:
    name = re.sub(r"[\[\]{}.]", "", parameter.metavar or parameter.name.upper())
    several = "…" if parameter.nargs == -1 else ""
    return f"{name}{several}" if parameter.required else f"[{name}{several}]"


def _option(parameter: Any) -> str:
    value = "" if parameter.is_flag else " " + (parameter.metavar or parameter.name.upper())
    return ", ".join(
        _code(o + (value if o.startswith("--") else "")) for o in (*parameter.opts, *parameter.secondary_opts)
    )


def _code(text: str) -> str:
    """Code in a cell of a table: a bar between backticks would end the cell on one renderer and show its escape on another."""
    return "<code>" + html.escape(text).replace("|", "&#124;") + "</code>"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


# ---------------------------------------------------------------- std


def std() -> Iterator[str]:
    """Names that need no declaration."""
    yield f'# Parents, hardware, runtimes\n\n{MADE} The files are `spaces/std/*.pzl`; `use "std/…"` finds them.\n'
    yield from _parents()
    yield from _hardware()
    yield from _spaces()
    yield from _runtimes()


def _parents() -> Iterator[str]:
    yield '## Parents\n\n`use "std/parents.pzl" (llama3_1_8b)`. Any other checkpoint of these families works, too:'
    yield "its config.json says its shape.\n"
    yield "| shape | checkpoint | family | layers | hidden | heads | KV heads | FFN width | experts | parameters | of a token |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    names = std_parents()
    program = _checked(
        f'use "std/parents.pzl" ({", ".join(names)})\n' + "".join(f"parent {n}_ = {n}\n" for n in names)
    )
    for name, id in names.items():
        s = program.parents[f"{name}_"].shape
        yield (
            f"| `{name}` | {id} | {s.family} | {s.layers} | {s.hidden} | {s.heads} | {s.kv_heads} "
            f"| {s.intermediate or s.expert_width} | {f'{s.top_k} of {s.experts}' if s.experts else ''} "
            f"| {total_params(s) / 1e9:.4g}B | {total_params(s, 'active_params') / 1e9:.4g}B |"
        )
    yield ""


def _checked(text: str) -> Any:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "all.pzl"
        path.write_text(text, "utf-8")
        checked, _ = inspect(path, {})
    assert checked.program is not None, checked
    return checked.program


def _hardware() -> Iterator[str]:
    text = resource("spaces", "std/hardware.pzl").read_text("utf-8")
    yield '## Hardware\n\n`use "std/hardware.pzl" (h100_sxm)`, then `h100_sxm(gpus: 4, dtype: fp8)`.'
    yield "The error is the mean of predicted throughput on published cells that the constants were not fitted to"
    yield "([costs](costs.md)); a dash: not compared.\n"
    yield "| profile | | memory | bandwidth | peaks, dense | error |\n|---|---|---|---|---|---|"
    for title, name, body in re.findall(r"^## (.*)\nhardware (\w+)[^{\n]*\{\n((?:  .*\n)*)\}", text, re.M):
        peaks = ", ".join(re.findall(r"^    (\w+ = \w+FLOP/s)", body, re.M))
        error = re.search(r"^  error = ([\d.]+%)", body, re.M)
        yield (
            f"| `{name}` | {title.rstrip('.')} | {_setting(body, 'memory')} | {_setting(body, 'bandwidth')} "
            f"| {peaks} | {error.group(1) if error else '—'} |"
        )
    yield ""


def _setting(body: str, name: str) -> str:
    found = re.search(rf"^  {name} = (\S+)", body, re.M)
    return found.group(1) if found else "—"


def _spaces() -> Iterator[str]:
    text = resource("spaces", "std/spaces.pzl").read_text("utf-8")
    yield '## Spaces\n\n`use "std/spaces.pzl" (puzzle_attention, puzzle_ffn)`.\n\n```pzl skip="needs your own files"'
    yield "\n".join(re.findall(r"^(?:let|fn) .*(?:\n +.*)*", text, re.M)) + "\n```\n"


def _runtimes() -> Iterator[str]:
    yield "## Runtimes\n\nWhat `export` can write for each. *Rewritten* is exact: the same outputs,"
    yield "at the cost that the export names.\n"
    rows: dict[str, list[str]] = {}
    columns = [(runtime, engine) for runtime in RUNTIMES.values() for engine in runtime.architectures]
    for _, engine in columns:
        for family in FAMILIES:
            rows.setdefault(f"{family} parents", []).append(_support(engine.families.get(family)))
        for name, field in _ROWS.items():
            rows.setdefault(name, []).append(_support(getattr(engine, field)))
        types = ", ".join(f"`{dtype}`" for dtype in engine.precisions)
        rows.setdefault("storage types, mixed", []).append(types or "no")
    titles = [r.title if len(r.architectures) == 1 else f"{r.title}: {e.name}" for r, e in columns]
    yield f"| | {' | '.join(titles)} |\n|---|{'---|' * len(titles)}"
    yield from (f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items())
    yield "\nA runtime with several columns runs a child in the first of them that can. Families with `no` alone: none of its"
    yield "architectures whose layers may differ computes their layers.\n"
    yield from (
        f"- {t}: read from `{e.source}`, {r.version}" for t, (r, e) in zip(titles, columns, strict=True)
    )
    yield ""


_ROWS: Mapping[str, str] = {
    "tied embeddings": "tied",
    "a separate output matrix": "untied",
    "biases in attention": "attention_bias",
    "biases in FFNs": "mlp_bias",
    "fewer key/value heads": "kv_heads",
    "sliding window": "window",
    "windows of several sizes": "other_windows",
    "sliding window with the first tokens": "first_tokens",
    "linear in attention's place": "linear_attention",
    "no attention": "no_attention",
    "no attention in the first layer": "no_first_attention",
    "narrower FFN": "width",
    "linear in the FFN's place": "linear_ffn",
    "no FFN": "no_ffn",
    "fewer experts": "experts",
    "several numbers of experts a token": "other_top_k",
    "narrower experts": "expert_width",
    "a dense FFN in a mixture's place": "dense_in_mixture",
}
"""Row -> the field of an architecture."""


def _support(support: Support | None) -> str:
    match support:
        case None:
            return "no"
        case Native():
            return "yes"
        case Lowered(into=into):
            return f"rewritten: {into}"
        case Absent(reason=reason):
            return f"no: {reason}"


def errors() -> Iterator[str]:
    """Every code under its heading: what it says, and what it means."""
    yield "# Diagnostics\n"
    yield (
        "Every code that `pzl` reports. E is an error, W a warning, which `pzl check --deny warnings` turns into a failure. "
        f"`pzl explain CODE` shows a program that has the mistake, the message about it, and one that is right. {MADE}\n"
    )
    for heading, group in groupby(map(Explanation.of, all_codes().values()), key=group_of):
        yield f"## {heading}\n"
        for each in group:
            yield f"### {each.code}: {each.message}\n\n{each.summary} {PARAGRAPH.join(each.text)}\n"


PAGES: Mapping[str, Callable[[], Iterator[str]]] = {
    "cli.md": cli,
    "errors.md": errors,
    "std.md": std,
    "python.md": lambda: python(MADE),
    "language.md": lambda: with_tables("language.md", OF_LANGUAGE),
    "artefacts.md": lambda: with_tables("artefacts.md", OF_ARTEFACTS),
}
"""File name in docs/ -> its lines."""


def ir_schema() -> dict[str, object]:
    """Return the JSON schema of `build/ir.json`. The same program gives the same bytes."""
    made = TypeAdapter(Program).json_schema(mode="serialization")
    said = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:puzzledsl:schema:ir-{FORMAT_VERSION}",
    }
    return {**said, **made}


if __name__ == "__main__":
    text = json.dumps(ir_schema(), indent=1, sort_keys=True) + "\n"
    (ROOT / "docs/schema/ir.schema.json").write_text(text, "utf-8")
    for file, lines in PAGES.items():
        (ROOT / "docs" / file).write_text("\n".join(lines()), "utf-8")
