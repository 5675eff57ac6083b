"""docs/language.md is a contract: every rule and table of it has a name, and every name a test."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "language.md").read_text("utf-8")
PROSE = re.sub(r"^```.*?^```$", "", PAGE, flags=re.DOTALL | re.MULTILINE)
ANCHORS = re.findall(r'<a id="([^"]+)"></a>', PAGE)


def stated() -> set[str]:
    """Every rule that a test names: `pytest.mark.states("…")`, `holds("…", …)`, `refused("…", …)`."""
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name == "states":
                found |= {
                    a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)
                }
            elif name in ("holds", "refused"):
                rule = node.args[0]
                found |= (
                    {rule.value} if isinstance(rule, ast.Constant) and isinstance(rule.value, str) else set()
                )
    return found


def test_every_rule_has_a_test_and_every_test_a_rule() -> None:
    assert stated() == set(ANCHORS)


def test_names_are_given_once() -> None:
    assert [name for name, count in Counter(ANCHORS).items() if count > 1] == []


def test_every_rule_and_table_is_named() -> None:
    """Rules are list items; what stands outside them introduces and shows."""
    lines = PROSE.split("\n")
    for number, line in enumerate(lines):
        if line.startswith("- "):
            assert line.startswith('- <a id="'), line
        if line.startswith("|") and not lines[number - 1].startswith("|"):
            assert lines[number - 2].startswith('<a id="'), line


def test_every_feature_is_shown() -> None:
    """Every declaration kind, statement and function of the language stands in an example."""
    from puzzledsl.language.kinds import ALTERNATIVES, KINDS
    from puzzledsl.language.words import KEYWORDS

    examples = "\n".join(re.findall(r"^```pzl.*?\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
    words = set(re.findall(r"\w+", examples))
    wanted = {*KINDS, *KEYWORDS, *ALTERNATIVES["attention"], *ALTERNATIVES["ffn"]}
    assert wanted - words == set()


@pytest.mark.states("text.reserved")
def test_the_reserved_words() -> None:
    from puzzledsl.language.words import KEYWORDS

    listed = re.search(r"Reserved words are no names: `([^`]+)`", PAGE)
    assert listed is not None
    assert set(listed.group(1).split()) == set(KEYWORDS)


# ---------------------------------------------------------------- tables


def table(anchor: str) -> list[list[str]]:
    """The rows of a table, without its head; a cell's text."""
    after = PAGE.split(f'<a id="{anchor}"></a>\n\n', 1)[1].split("\n\n", 1)[0].split("\n")[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in after]


def words(cell: str) -> list[str]:
    """The words in backquotes."""
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.states("text.kinds-table")
def test_kinds() -> None:
    from puzzledsl.checker.check import LOWERINGS
    from puzzledsl.language.kinds import KINDS

    assert [words(row[0])[0] for row in table("text.kinds-table")] == list(KINDS) == list(LOWERINGS)


@pytest.mark.states("values.units-table", "values.units")
def test_units() -> None:
    from puzzledsl.base.units import UNITS

    rows = {row[0]: words(row[1]) for row in table("values.units-table")}
    for name, units in rows.items():
        assert [UNITS[unit][1].name for unit in units] == [name] * len(units)
    assert {unit for units in rows.values() for unit in units} == set(UNITS) - {""}


@pytest.mark.states("values.functions")
def test_functions() -> None:
    from puzzledsl.language.words import FUNCTIONS

    listed = [word for row in table("values.functions") for word in words(row[0])]
    assert listed == [*FUNCTIONS]


@pytest.mark.states("param.types-table")
def test_parameter_types(tmp_path: Path) -> None:
    from puzzledsl.checker.names.words import TYPES
    from tests.language.rules import program

    rows = table("param.types-table")
    assert [words(row[0])[0] for row in rows] == list(TYPES)
    for row in rows:
        for literal in words(row[1]):
            program(tmp_path, f"param x: {words(row[0])[0]} = {literal}")


@pytest.mark.states("hardware.settings")
def test_hardware_settings() -> None:
    from puzzledsl.language.kinds import KINDS

    hardware = KINDS["hardware"]

    listed = [word.split(" ")[0] for row in table("hardware.settings") for word in words(row[0])]
    assert sorted(listed) == sorted((*hardware.settings, *hardware.sections))
    (efficiency,) = (row[1] for row in table("hardware.settings") if "efficiency" in row[0])
    assert words(efficiency) == list(hardware.sections["efficiency"].settings)


@pytest.mark.states("scenario.metrics-table", "scenario.metrics")
def test_metrics() -> None:
    from puzzledsl.ir.metric_records import METRICS

    rows = table("scenario.metrics-table")
    assert [(words(row[0])[0], row[1]) for row in rows] == [(n, m.dimension.name) for n, m in METRICS.items()]


@pytest.mark.states("space.alternatives-table", "space.alternatives")
def test_alternatives() -> None:
    from puzzledsl.language.kinds import ALTERNATIVES, pattern_fields

    listed: dict[str, list[str]] = {"attention": [], "ffn": [], "embedding": ["parent"], "head": ["parent"]}
    for row in table("space.alternatives-table"):
        (call,) = words(row[0])
        name, *arguments = re.findall(r"[a-z_]+(?=[:(]|$)", call)
        sub_blocks = ("attention", "ffn") if row[1] == "both" else (row[1],)
        for sub_block in sub_blocks:
            listed[sub_block].append(name)
        tested = dict.fromkeys(a for s in sub_blocks for a in pattern_fields(ALTERNATIVES[s][name]))
        assert [a for a in arguments if a != "round"] == list(tested)
    assert {k: sorted(v) for k, v in listed.items()} == {k: sorted(v) for k, v in ALTERNATIVES.items()}


@pytest.mark.states("init.table")
def test_initialisers() -> None:
    from puzzledsl.language.kinds import INITIALISERS

    assert {words(row[0])[0]: tuple(words(row[1])) for row in table("init.table")} == INITIALISERS


@pytest.mark.states("bld.settings-table", "bld.settings")
def test_bld_settings(tmp_path: Path) -> None:
    from puzzledsl.language.kinds import KINDS
    from tests.language.rules import program

    rows = table("bld.settings-table")
    assert [words(row[0])[0] for row in rows] == list(KINDS["bld"].settings)
    given = [f"{words(row[0])[0]} = {words(row[1])[0]}" for row in rows if words(row[1])]
    bare = program(tmp_path, 'data d = text("d.txt")\nbld b of w { tokens = 0 }').blds["b"]
    full = program(tmp_path, f'data d = text("d.txt")\nbld b of w {{ tokens = 0, {", ".join(given)} }}').blds[
        "b"
    ]
    assert bare == full


@pytest.mark.states("score.settings-table", "score.settings")
def test_score_settings(tmp_path: Path) -> None:
    from tests.language.rules import program

    head = 'data d = text("d.txt")\nbld b of w { tokens = 0 }\n'
    rows = table("score.settings-table")
    given = [f"{words(row[0])[0]}: {words(row[1])[0]}" for row in rows if words(row[1])]
    assert len(given) == 3
    bare = program(tmp_path, head + "score x of b = replace_one(lm_loss)").scores["x"]
    full = program(tmp_path, head + f"score x of b = replace_one(lm_loss, {', '.join(given)})").scores["x"]
    assert bare == full
    assert program(tmp_path, head + "score y of b = replace_one(lm_loss, data: d)").scores["y"]


@pytest.mark.states("refine.settings-table")
def test_refine_settings(tmp_path: Path) -> None:
    from tests.language.rules import WEIGHTS, program

    def refine(call: str) -> object:
        text = f"{WEIGHTS}search s of v {{ minimize loss, require params <= 0.9x, refine = {call} }}"
        found = program(tmp_path, text).searches["s"].refine
        return None if found is None else found.model_dump(exclude={"where"})

    rows = table("refine.settings-table")
    given = [f"{words(row[0])[0]}: {words(row[1])[0]}" for row in rows if words(row[1])]
    assert [words(row[0])[0] for row in rows] == ["healed", "samples", "data"] and len(given) == 2
    assert refine("measured(9)") == refine(f"measured(9, {', '.join(given)})") is not None
    assert refine("measured(9, data: questions)") is not None


@pytest.mark.states("judge.settings-table", "judge.figures-table")
def test_judge_settings_and_figures(tmp_path: Path) -> None:
    from tests.language.rules import WEIGHTS, program

    def judge(more: str, bound: str = "taste.kl <= 1") -> object:
        text = f'data unread = text("u.txt")\njudge taste of q = tasks("a.jsonl") {{ data = unread{more} }}\n'
        text += f"{WEIGHTS}search s of v {{ minimize params, require {bound} }}"
        return program(tmp_path, text).judges["taste"].model_dump(exclude={"where"})

    rows = table("judge.settings-table")
    given = [f"{words(row[0])[0]} = {words(row[1])[0]}" for row in rows if words(row[1])]
    assert len(rows) == 5 and len(given) == 2
    assert judge("") == judge(f", {', '.join(given)}")
    for row in table("judge.figures-table"):
        judge("", f"taste.{words(row[0])[0]} {words(row[1])[0]}")


@pytest.mark.states("search.figures")
def test_figures() -> None:
    from puzzledsl.language.words import SUB_BLOCK_FACTS

    listed: dict[str, list[str]] = {"attention": [], "ffn": []}
    for row in table("search.figures"):
        for sub_block in ("attention", "ffn") if row[1] == "both" else (row[1],):
            listed[sub_block] += words(row[0])
    assert listed == {sub_block: list(names) for sub_block, names in SUB_BLOCK_FACTS.items()}


@pytest.mark.states("search.terms-table", "search.terms")
def test_expressions(tmp_path: Path) -> None:
    from tests.language.rules import program, search

    for row in table("search.terms-table"):
        (text,) = words(row[0])
        text = text.replace("[i]", "[1]").replace("[40..]", "[2..]")
        if text == "l.index":
            text = "sum(l.index * l.ffn.width for l in layers)"
        found = program(tmp_path, search("", goal=f"minimize {text}")).searches["s"]
        assert found.objective.terms, text


@pytest.mark.states("parent.families-table")
def test_families() -> None:
    from puzzledsl.families.registry import FAMILIES

    listed = {words(row[0])[0]: tuple(words(row[1])) for row in table("parent.families-table")}
    assert listed == {name: family.takes for name, family in FAMILIES.items()}


@pytest.mark.states("solver.table", "solver.choice")
def test_solvers(tmp_path: Path) -> None:
    from puzzledsl.ir.search_nodes import SOLVERS
    from tests.language.rules import MEASURED, program, search

    calls = [words(row[0])[0] for row in table("solver.table")]
    assert [call.split("(")[0] for call in calls] == list(SOLVERS)
    found = [program(tmp_path, MEASURED + search(f"solver = {call}")).searches["s"].solver for call in calls]
    assert [solver.kind for solver in found] == list(SOLVERS)
    assert program(tmp_path, search("")).searches["s"].solver == found[0]


@pytest.mark.states("export.runtimes")
def test_runtimes() -> None:
    from puzzledsl.ir.stage_nodes import EXPORTS

    rows = {words(row[0])[0]: row for row in table("export.runtimes")}
    for column, argument in ((1, "runtime"), (2, "dtype")):
        listed = {name: tuple(words(row[column])) for name, row in rows.items()}
        assert listed == {name: call.arguments[argument].words for name, call in EXPORTS.items()}


@pytest.mark.states("limits.table")
def test_limits() -> None:
    from puzzledsl.checker import context as limits
    from puzzledsl.checker.names.names import MAX_FILES
    from puzzledsl.families.config import MAX_LAYERS
    from puzzledsl.syntax.newlines import MAX_DEPTH

    numbers = [int(row[1].replace(",", "")) for row in table("limits.table")]
    assert numbers == [
        MAX_LAYERS,
        limits.MAX_OPTIONS,
        limits.MAX_INSTANCES,
        limits.MAX_REQUIREMENTS,
        limits.MAX_FORMULA,
        limits.MAX_CELLS,
        MAX_FILES,
        MAX_DEPTH,
    ]
