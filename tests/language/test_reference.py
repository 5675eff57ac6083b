"""docs/language.md is a contract: every rule and table of it has a name, and every name a test."""

import ast
import re
from pathlib import Path

import pytest

from puzzledsl.base.units import UNITS
from puzzledsl.checker import context as limits
from puzzledsl.checker.names.names import MAX_FILES
from puzzledsl.families.config import MAX_LAYERS
from puzzledsl.language.kinds import ALTERNATIVES, KINDS
from puzzledsl.language.words import KEYWORDS
from puzzledsl.syntax.newlines import MAX_DEPTH
from scripts.reference_language import OF_LANGUAGE
from tests.checker.programs import without_source
from tests.language.rules import MEASURED, PIECES, WEIGHTS, program, search

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "language.md").read_text("utf-8")
PROSE = re.sub(r"^```.*?^```$", "", PAGE, flags=re.DOTALL | re.MULTILINE)
ANCHORS = re.findall(r'<a id="([^"]+)"></a>', PAGE)


def stated() -> set[str]:
    """Every rule that a test names: `pytest.mark.states("…")`, `holds("…", …)`, `refused("…", …)`."""
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        text = path.read_text("utf-8")
        calls = ast.walk(ast.parse(text)) if re.search(r"\b(states|holds|refused)\(", text) else ()
        for node in (each for each in calls if isinstance(each, ast.Call)):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            rules = {"states": node.args, "holds": node.args[:1], "refused": node.args[:1]}.get(name, [])
            found |= {a.value for a in rules if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return found


def test_every_rule_has_one_name_and_a_test_and_every_test_a_rule() -> None:
    assert sorted(stated()) == sorted(ANCHORS)


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
    examples = "\n".join(re.findall(r"^```pzl.*?\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
    wanted = {*KINDS, *KEYWORDS, *ALTERNATIVES["attention"], *ALTERNATIVES["ffn"]}
    unshown = wanted - set(re.findall(r"\w+", examples))
    assert not unshown, "show them in an example of docs/language.md"


@pytest.mark.states("text.reserved")
def test_the_reserved_words() -> None:
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


@pytest.mark.states(
    "text.kinds-table", "values.functions", "hardware.settings", "scenario.metrics-table", "scenario.metrics", "space.alternatives-table",
    "space.alternatives", "init.table", "search.figures", "parent.families-table", "export.runtimes", "limits.table",
    "values.units-table", "search.terms-table",
)  # fmt: skip
def test_tables_are_made_from_the_code_or_tested_here() -> None:
    """tests/docs/test_places.py holds those that are made to be up to date."""
    named = {name for name in ANCHORS if PAGE.split(f'<a id="{name}"></a>', 1)[1].startswith("\n\n|")}
    assert named - {*OF_LANGUAGE} == {
        "values.units-table",
        "values.precedence",
        "search.terms-table",
        "limits.table",
    }


@pytest.mark.states("values.units-table", "values.units")
def test_units() -> None:
    rows = {row[0]: words(row[1]) for row in table("values.units-table")}
    for name, units in rows.items():
        assert [UNITS[unit][1].name for unit in units] == [name] * len(units)
    assert {unit for units in rows.values() for unit in units} == set(UNITS) - {""}


@pytest.mark.states("param.types-table")
def test_values_of_parameters(tmp_path: Path) -> None:
    for row in table("param.types-table"):
        for literal in words(row[1]):
            program(tmp_path, f"param x: {words(row[0])[0]} = {literal}")


SCORE = 'bld b of w {{ tokens = 0 }}\nscore x of b = replace_one(lm_loss{})\ndata d = text("d.txt")'
REFINED = WEIGHTS.replace("{", "{{").replace("}", "}}") + (
    "search s of v {{ minimize loss, require params <= 0.9x, refine = measured(9{}) }}"
)
JUDGED = 'data unread = text("u.txt")\njudge taste of p = tasks("a.jsonl") {{ data = unread{} }}'


@pytest.mark.states(
    "bld.settings-table", "bld.settings", "score.settings-table", "score.settings", "refine.settings-table", "judge.settings-table",
)  # fmt: skip
@pytest.mark.parametrize(
    ("anchor", "text", "sign", "defaults"),
    [
        ("bld.settings-table", PIECES.replace("{ tokens = 1k }", "{{ tokens = 0{} }}"), " =", 8),
        ("score.settings-table", SCORE, ":", 3),
        ("refine.settings-table", REFINED, ":", 2),
        ("judge.settings-table", JUDGED, " =", 2),
    ],
)
def test_what_is_left_out_is_the_default_of_the_table(
    tmp_path: Path, anchor: str, text: str, sign: str, defaults: int
) -> None:
    given = [f", {words(row[0])[0]}{sign} {words(row[1])[0]}" for row in table(anchor) if words(row[1])]
    assert len(given) == defaults
    bare, full = (program(tmp_path, text.format(more)) for more in ("", "".join(given)))
    kind = anchor.partition(".")[0].replace("refine", "searche") + "s"
    for name, one in getattr(bare, kind).items():
        other = getattr(full, kind)[name]
        assert without_source(one.model_dump()) == without_source(other.model_dump())


@pytest.mark.states("judge.figures-table")
def test_bounds_of_judged_figures(tmp_path: Path) -> None:
    for figure, bound, *_ in table("judge.figures-table"):
        text = f"search s of v {{ minimize params, require taste.{words(figure)[0]} {words(bound)[0]} }}"
        program(tmp_path, JUDGED.format("").replace("of p", "of q") + f"\n{WEIGHTS}{text}")


@pytest.mark.states("search.terms-table", "search.terms")
def test_terms(tmp_path: Path) -> None:
    for row in table("search.terms-table"):
        (text,) = words(row[0])
        text = text.replace("[i]", "[1]").replace("[40..]", "[2..]")
        if text == "l.index":
            text = "sum(l.index * l.ffn.width for l in layers)"
        found = program(tmp_path, search("", goal=f"minimize {text}")).searches["s"]
        assert found.objective.terms, text


@pytest.mark.states("solver.table", "solver.choice")
def test_solvers(tmp_path: Path) -> None:
    calls = [words(row[0])[0] for row in table("solver.table")]
    found = [program(tmp_path, MEASURED + search(f"solver = {call}")).searches["s"].solver for call in calls]
    assert [solver.kind for solver in found] == [call.split("(")[0] for call in calls]
    assert program(tmp_path, search("")).searches["s"].solver == found[0]


@pytest.mark.states("limits.table")
def test_limits() -> None:
    numbers = [int(row[1].replace(",", "")) for row in table("limits.table")]
    checker = (
        limits.MAX_OPTIONS,
        limits.MAX_INSTANCES,
        limits.MAX_REQUIREMENTS,
        limits.MAX_FORMULA,
        limits.MAX_CELLS,
    )
    assert numbers == [MAX_LAYERS, *checker, MAX_FILES, MAX_DEPTH]
