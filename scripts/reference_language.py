"""The tables of docs/language.md and docs/artefacts.md, from those of the package. The rest of the pages is written by hand."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from puzzledsl.base.settings import Call, Setting
from puzzledsl.families.registry import FAMILIES
from puzzledsl.ir.metric_records import METRICS
from puzzledsl.ir.search_nodes import REFINES, SOLVERS
from puzzledsl.ir.stage_nodes import EXPORTS, JUDGED
from puzzledsl.ir.tables.evaluations import MEASURES
from puzzledsl.language import words
from puzzledsl.language.kinds import ALTERNATIVES, INITIALISERS, KINDS, SCORES, SHAPE

DOCS = Path(__file__).parents[1] / "docs"
Rows = Iterator[tuple[str, ...]]


Tables = Mapping[str, tuple[tuple[str, ...], Callable[[], Rows]]]
"""Anchor -> the head of its table and the rows."""


def with_tables(page: str, tables: Tables) -> Iterator[str]:
    """The page with its tables made anew: each stands behind the anchor that has its name."""
    text = (DOCS / page).read_text("utf-8")
    for anchor, (head, rows) in tables.items():
        before, rest = text.split(f'<a id="{anchor}"></a>\n\n', 1)
        _, after = rest.split("\n\n", 1)
        table = "\n".join([_row(head), "|---" * len(head) + "|", *map(_row, rows())])
        text = f'{before}<a id="{anchor}"></a>\n\n{table}\n\n{after}'
    yield text


def _row(cells: Iterable[str]) -> str:
    """One row; a bar in code would end its cell, so such code is written in HTML."""
    return "| " + " | ".join(re.sub(r"`([^`]*\|[^`]*)`", _code, cell) for cell in cells) + " |"


def _code(match: re.Match[str]) -> str:
    return f"<code>{html.escape(match[1]).replace('|', '&#124;')}</code>"


# ---------------------------------------------------------------- rows


def _measures() -> Rows:
    for name, measure in MEASURES.items():
        yield f"`{name}`", measure.doc


def _kinds() -> Rows:
    for name, kind in KINDS.items():
        targets = " or ".join(f"a {t}" if t[0] not in "aeiou" else f"an {t}" for t in kind.targets)
        yield f"`{name}`", kind.doc, f"`{kind.preposition}` {targets}" if targets else ""


def _functions() -> Rows:
    yield from ((f"`{name}`", doc) for name, doc in words.FUNCTIONS.items())


def _types() -> Rows:
    yield from ((f"`{name}`", known.doc) for name, known in words.TYPES.items())


def _metrics() -> Rows:
    for name, metric in METRICS.items():
        yield f"`{name}`", metric.dimension.name, metric.doc


def _profile() -> Rows:
    hardware = KINDS["hardware"]
    yield from ((f"`{name}`", setting.doc) for name, setting in hardware.settings.items())
    for name, section in hardware.sections.items():
        listed = [f"`{key}`" for key in section.settings if key not in words.DTYPES]
        yield (
            f"`{name} {{ … }}`",
            section.doc + (f" {', '.join(listed)}" if len(listed) < 9 and listed else ""),
        )


def _alternatives() -> Rows:
    for name in dict.fromkeys(name for calls in ALTERNATIVES.values() for name in calls):
        owners = [sub_block for sub_block, calls in ALTERNATIVES.items() if name in calls]
        call = ALTERNATIVES[owners[0]][name]
        told = [call.doc, *(f"`{key}`: {setting.doc}" for key, setting in call.arguments.items())]
        yield f"`{_signature(name, call)}`", owners[0] if len(owners) == 1 else "both", " ".join(told)


def _signature(name: str, call: Call) -> str:
    """A call with its arguments' defaults; `…` for those that have none."""
    arguments = [f"{key}: {s.default.strip('`') or '…'}" for key, s in call.arguments.items()]
    return name + (f"({', '.join(arguments)})" if arguments else "")


def _initialisers() -> Rows:
    yield from ((f"`{name}`", _listed(known)) for name, known in INITIALISERS.items())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _settings(table: Mapping[str, Setting]) -> Callable[[], Rows]:
    def rows() -> Rows:
        for name, setting in table.items():
            choice = f" One of {_listed(setting.words)}." if setting.words and not setting.sums else ""
            yield f"`{name}`", setting.default, setting.doc + choice * (setting.words != ("true", "false"))

    return rows


def _named(call: Call) -> Callable[[], Rows]:
    """The arguments that are never given without their names."""
    return _settings({name: call.arguments[name] for name in call.names[call.positional :]})


def _families() -> Rows:
    for name, family in FAMILIES.items():
        rules = {key: value for key, value in family.literal.items() if key in SHAPE.arguments}
        said = (f"`{key}: {str(value).lower()}`" for key, value in rules.items() if key != "mixer")
        yield f"`{name}`", _listed(family.takes), ", ".join(said)


def _figures() -> Rows:
    table = words.SUB_BLOCK_FACTS
    owners_of = {name: [s for s in table if name in table[s]] for names in table.values() for name in names}
    for name, owners in sorted(owners_of.items(), key=lambda item: len(item[1])):
        yield f"`{name}`", owners[0] if len(owners) == 1 else "both", table[owners[0]][name]


def _solvers() -> Rows:
    yield from ((f"`{_signature(name, call)}`", call.doc) for name, call in SOLVERS.items())


def _judged() -> Rows:
    for figure in JUDGED.values():
        op = "<=" if figure.better == "less" else ">="
        yield f"`{figure.name}`", f"`{op} {figure.example}`", figure.doc


def _exports() -> Rows:
    for name, call in EXPORTS.items():
        yield f"`{name}`", _listed(call.arguments["runtime"].words), _listed(call.arguments["dtype"].words)


_WHAT = "what it is"
OF_LANGUAGE: Tables = {
    "text.kinds-table": (("kind", "what it declares", "takes"), _kinds),
    "values.functions": (("function", "what it gives"), _functions),
    "parent.families-table": (("family", "takes", "unless written"), _families),
    "param.types-table": (("type", "values"), _types),
    "hardware.settings": (("setting", _WHAT), _profile),
    "scenario.metrics-table": (("metric", "dimension", _WHAT), _metrics),
    "space.alternatives-table": (("alternative", "of", _WHAT), _alternatives),
    "init.table": (("of", "initialisers, the default first"), _initialisers),
    "bld.settings-table": (("setting", "default", _WHAT), _settings(KINDS["bld"].settings)),
    "score.settings-table": (("argument", "default", _WHAT), _named(SCORES["replace_one"])),
    "search.figures": (("figure", "of", _WHAT), _figures),
    "solver.table": (("solver", _WHAT), _solvers),
    "judge.settings-table": (("setting", "default", _WHAT), _settings(KINDS["judge"].settings)),
    "judge.figures-table": (("figure", "bound", _WHAT), _judged),
    "refine.settings-table": (("argument", "default", _WHAT), _named(REFINES["measured"])),
    "export.runtimes": (("format", "runtimes, the default first", "dtypes"), _exports),
}
OF_ARTEFACTS: Tables = {"measures": (("measure", "meaning"), _measures)}
