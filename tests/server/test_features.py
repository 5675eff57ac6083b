"""Navigation, outline, colours, formatting, problems and what mends them."""

from itertools import pairwise
from pathlib import Path

import pytest
from lsprotocol import types

from puzzledsl.base.resources import resource
from puzzledsl.server.document import MAX_BYTES, Document, Project
from puzzledsl.server.navigation import definition, outline, references
from puzzledsl.server.problems import TYPES, actions, formatting, problems, semantic_tokens
from puzzledsl.syntax.format import format_source
from tests.server.texts import NEMOTRON, PROGRAM, marked, opened, place_of


def edited(text: str, edits: list[types.TextEdit]) -> str:
    """A text of plain letters with edits made."""
    starts = [0]
    for line in text.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    for e in sorted(edits, key=lambda e: (e.range.start.line, e.range.start.character), reverse=True):
        first = starts[e.range.start.line] + e.range.start.character
        last = min(starts[e.range.end.line] + e.range.end.character, len(text))
        text = text[:first] + e.new_text + text[last:]
    return text


def text_edits(edit: types.WorkspaceEdit | None) -> list[types.TextEdit]:
    assert edit is not None
    assert edit.document_changes is not None
    (change,) = edit.document_changes
    return list(change.edits)  # type: ignore[union-attr, arg-type]


def word_at(document: Document, place: types.Range) -> str:
    line = document.lines.lines[place.start.line]
    return line[place.start.character : place.end.character]


def test_a_definition_is_in_this_file_in_a_shipped_one_or_behind_an_alias(tmp_path: Path) -> None:
    (tmp_path / "lib.pzl").write_text("\nlet one = 1\n", "utf-8")
    text = PROGRAM + 'use "lib.pzl" as lib\nlet x = lib.one\n'
    document = opened(text, tmp_path)
    shipped = resource("spaces", "std/hardware.pzl")
    line = shipped.read_text("utf-8").split("\n").index("hardware h100_sxm {")
    for word, uri, first, start, length in (
        ("limit because", document.uri, place_of(PROGRAM, "let limit")[0] - 1, 6, 5),
        ("h100_sxm(memory", shipped.as_uri(), line, 9, 8),
        ("one\n", (tmp_path / "lib.pzl").as_uri(), 1, 4, 3),
        ("lib.pzl", (tmp_path / "lib.pzl").as_uri(), 0, 0, 0),
    ):
        found = types.Range(types.Position(first, start), types.Position(first, start + length))
        assert definition(document, *place_of(text, word)) == types.Location(uri, found), word


@pytest.mark.parametrize("text", ["let a = no‸body\n", "let a = su‸m([1])\n", "let a = 1 ‸+ 2\n", "‸"])
def test_no_definition(text: str, tmp_path: Path) -> None:
    assert definition(*marked(text, tmp_path)) is None
    assert references(*marked(text, tmp_path)) == []


def test_references_in_every_program_of_the_workspace(tmp_path: Path) -> None:
    (tmp_path / "lib.pzl").write_text("let one = 1\nlet two = one + one\n", "utf-8")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "b.pzl").write_text('use "../lib.pzl" as l\nlet x = l.one\nlet one = 2\n', "utf-8")
    document, line, column = marked('use "lib.pzl" (one)\nlet x = ‸one\nfn f(one) = one\n', tmp_path)
    found = sorted(f"{Path(f.uri).stem} {f.range.start.line}" for f in references(document, line, column))
    assert found == ["b 1", "lib 0", "lib 1", "lib 1", "program 0", "program 1"]
    assert len(references(document, line, column, declared=False)) == len(found) - 1


def test_the_outline(tmp_path: Path) -> None:
    document = opened(PROGRAM, tmp_path)
    found = outline(document)
    assert [s.name for s in found] == "p headroom few half h chat w d b kl cpsat".split()
    (search,) = (s for s in found if s.name == "cpsat")
    assert search.detail == "search"
    requirements = ["require chat.memory <= limit", "require count(ffn is noop) <= few"]
    assert [c.name for c in search.children or ()] == [
        "minimize kl",
        "limit",
        *requirements,
        "for i",
        "solver",
    ]
    for symbol in found:
        assert word_at(document, symbol.selection_range) == symbol.name


def test_the_outline_has_aliases_and_preferences(tmp_path: Path) -> None:
    text = PROGRAM.replace("(h100_sxm)", "as cards").replace("h100_sxm(", "cards.h100_sxm(")
    text = text.replace("  solver = cpsat", "  prefer layers[0].ffn is not noop\n  solver = cpsat")
    found = outline(opened(text, tmp_path))
    assert (found[0].name, found[0].detail) == ("cards", "use")
    assert "prefer layers[0].ffn is not noop" in [c.name for c in found[-1].children or ()]


def test_a_path_that_no_file_can_have_leads_nowhere(tmp_path: Path) -> None:
    document = opened('use "a\0b.pzl" (x)\nuse "std/nothing.pzl" (y)\nuse "none.pzl" (z)\n', tmp_path)
    assert [definition(document, line, 7) for line in (1, 2, 3)] == [None] * 3


def test_files_too_large_or_not_text_are_passed_over(tmp_path: Path) -> None:
    project = Project(folders=[tmp_path])
    (tmp_path / "a.pzl").write_text("let one = 1\n", "utf-8")
    (tmp_path / "b.pzl").write_bytes(b"let two = \xff\n")
    with (tmp_path / "c.pzl").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert [d.path.name for d in project.programs()] == ["a.pzl"]
    assert project.document(tmp_path / "nowhere.pzl") is None


def test_a_text_that_has_no_file_lies_in_the_workspace(tmp_path: Path) -> None:
    (tmp_path / "lib.pzl").write_text("let one = 1\n", "utf-8")
    document = Project(folders=[tmp_path]).open(
        "untitled:Untitled-1", 'use "lib.pzl" (one)\nlet a = one\n', 1
    )
    assert document.path == tmp_path / "Untitled-1.pzl"
    assert problems(document) == []
    assert Project().open("untitled:", "", 1).path == Path.cwd() / "untitled.pzl"


def test_every_range_of_the_outline_holds_its_name_and_its_children() -> None:
    document = Project().document(NEMOTRON)
    assert document is not None

    def holds(outer: types.Range, inner: types.Range) -> bool:
        return outer.start <= inner.start and inner.end <= outer.end

    queue = list(outline(document))
    while queue:
        symbol = queue.pop()
        assert holds(symbol.range, symbol.selection_range), symbol.name
        for child in symbol.children or ():
            assert holds(symbol.range, child.range)
            queue.append(child)


def test_semantic_tokens_are_the_classes_of_words(tmp_path: Path) -> None:
    document = opened(PROGRAM + 'let face = "😀" # é\n', tmp_path)
    data = semantic_tokens(document).data
    line = start = 0
    found: dict[tuple[str, int], str] = {}
    text = [t.encode("utf-16-le") for t in document.lines.lines]
    for down, right, length, kind, _ in zip(*[iter(data)] * 5, strict=True):
        line, start = line + down, right + (start if not down else 0)
        word = text[line][2 * start : 2 * (start + length)].decode("utf-16-le")
        found.setdefault((word, line), TYPES[kind])
    for word, statement, kind in (
        ("search", "search cpsat", "keyword"),
        ("cpsat", "search cpsat", "class"),
        ("solver", "solver = cpsat", "property"),
        ("headroom", "let limit", "variable"),
        ("memory", "require chat", "property"),
        ("## A small parent.", "## A", "comment"),
        ('"😀"', "let face", "string"),
        ("# é", "let face", "comment"),
    ):
        assert found[word, place_of(document.text, statement)[0] - 1] == kind


@pytest.mark.parametrize(
    "text",
    ["let   a=1\n\n\nlet b  = 2", "\n\nlet a = 1\n\n\n", "let a = 1", "", PROGRAM.replace("  ", "      ")],
)
def test_formatting_is_that_of_the_command(text: str, tmp_path: Path) -> None:
    document = opened(text, tmp_path)
    edits = formatting(document)
    assert edited(text, edits) == format_source(text)
    assert all(a.range.end.line <= b.range.start.line for a, b in pairwise(edits))
    assert formatting(opened(f"{text}\nlet   b = (1\n", tmp_path)) == [], (
        "one with syntax errors is left as it is"
    )


def test_a_problem_has_its_place_its_code_and_what_it_refers_to(tmp_path: Path) -> None:
    text = 'let a = ["😀", 1]\nlet a = 2\nlet b = ["😀", 1s + 1B]\n'
    document = opened(text, tmp_path)
    twice, unlike = problems(document)
    assert twice.code_description is not None
    path, _, fragment = twice.code_description.href.removeprefix("file://").partition("#L")
    heading = Path(path).read_text("utf-8").split("\n")[int(fragment) - 1]
    assert heading.startswith(f"### {twice.code}: ")
    assert (twice.source, twice.severity) == ("pzl", types.DiagnosticSeverity.Error)
    (related,) = twice.related_information or ()
    assert related.location.uri == document.uri
    assert related.location.range.start == types.Position(0, 4)
    assert unlike.range.start.line == 2
    assert unlike.range.end.character <= len(text.split("\n")[2].encode("utf-16-le")) // 2


def test_what_is_never_used_is_faded(tmp_path: Path) -> None:
    text = PROGRAM.replace("(h100_sxm)", "(h100_sxm, h200)").replace("let few", "let lonely = 1\nlet few")
    document = opened(text, tmp_path)
    found = problems(document)
    assert [word_at(document, p.range) for p in found] == ["h200", "lonely"]
    assert {p.severity for p in found} == {types.DiagnosticSeverity.Warning}
    assert [p.tags for p in found] == [[types.DiagnosticTag.Unnecessary]] * 2


def test_mistakes_of_used_files_are_told_at_the_first_way_there(tmp_path: Path) -> None:
    (tmp_path / "deep.pzl").write_text("let one = nobody\nlet other = 1s + 1\n", "utf-8")
    (tmp_path / "lib.pzl").write_text('use "deep.pzl" (one)\nlet two = one\n', "utf-8")
    (tmp_path / "good.pzl").write_text("let three = 3\n", "utf-8")
    text = 'use "nowhere.pzl" (four)\nuse "good.pzl" (three)\nuse "lib.pzl" (two)\nuse "deep.pzl" (one)\n'
    document = opened(text + "let all = [one, two, three]\n", tmp_path)
    absent, problem = problems(document)
    assert document.uses(f"{tmp_path}/deep.pzl") and not document.uses(f"{tmp_path}/other.pzl")
    assert (absent.range.start.line, absent.code) == (0, "E0211")
    assert problem.range.start.line == 2
    assert "`lib.pzl` has 2 mistakes: nothing here is called `nobody`" in problem.message
    places = [r.location.uri for r in problem.related_information or ()]
    assert places == [(tmp_path / "deep.pzl").as_uri()] * 2


def test_an_unsaved_file_stands_for_the_one_on_disk(tmp_path: Path) -> None:
    project = Project(folders=[tmp_path])
    (tmp_path / "lib.pzl").write_text("let one = 1\n", "utf-8")
    opened('use "lib.pzl" (two)\n', tmp_path, project=project)
    (before,) = problems(project.documents[(tmp_path / "program.pzl").as_uri()])
    assert "two" in before.message
    opened("let two = 2\n", tmp_path, "lib.pzl", project)
    assert problems(project.documents[(tmp_path / "program.pzl").as_uri()]) == []
    project.close((tmp_path / "lib.pzl").as_uri())
    assert problems(project.documents[(tmp_path / "program.pzl").as_uri()]) == [before]


def test_a_fix_makes_its_problem_vanish_and_all_of_them_make_all_vanish(tmp_path: Path) -> None:
    text = (
        PROGRAM.replace("minimize", "minimise")
        .replace("headroom *", "headrom *")
        .replace("parent p", "parnt p")
    )
    document = opened(text, tmp_path)
    found = problems(document)
    assert len(found) >= 3
    whole = types.Range(types.Position(0, 0), types.Position(len(text), 0))
    for problem in found:
        fix, *_ = actions(document, problem.range, ["quickfix"])
        assert fix.diagnostics == [problem] and fix.is_preferred
        mended = edited(text, text_edits(fix.edit))
        again = problems(opened(mended, tmp_path, project=Project(folders=[tmp_path])))
        assert problem.message not in {p.message for p in again}
    (everything,) = actions(document, whole, ["source.fixAll"])
    assert edited(text, text_edits(everything.edit)) == PROGRAM
    assert actions(opened(PROGRAM, tmp_path), whole) == []


def test_actions_are_those_of_the_place_and_of_the_kind_asked_for(tmp_path: Path) -> None:
    document = opened("let alpha = 1\nlet b = alpah\nlet c = 2\n", tmp_path)
    here = types.Range(types.Position(1, 9), types.Position(1, 9))
    elsewhere = types.Range(types.Position(2, 0), types.Position(2, 3))
    (fix,) = actions(document, here)
    assert (fix.kind, fix.command) == (types.CodeActionKind.QuickFix, None)
    assert actions(document, elsewhere) == []
    assert actions(document, here, ["refactor"]) == []
