"""A name is changed everywhere or nowhere: afterwards the program means what it meant."""

import json
import random
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from puzzledsl.server.document import Document, Project
from puzzledsl.server.navigation import Refused, rename
from puzzledsl.syntax import tree
from tests.cases import cases
from tests.checker.programs import without_source
from tests.generated import program
from tests.server.test_features import edited
from tests.server.texts import NEMOTRON, PROGRAM, marked, opened, place_of

NEW = "brand_new_name"
LIB = "let few = 3\nfn half(amount) = amount / 2\nhardware big { memory = 80GB, bandwidth = 1TB/s, peak { bf16 = 1TFLOP/s } }\n"


def applied(document: Document, line: int, column: int, new: str) -> dict[str, str]:
    """The texts after a renaming, by URI."""
    edit = rename(document, line, column, new)
    found: dict[str, str] = {}
    for change in edit.document_changes or ():
        uri = change.text_document.uri  # type: ignore[union-attr]
        other = next(d for d in document.project.programs() if d.uri == uri)
        found[uri] = edited(other.text, list(change.edits))  # type: ignore[union-attr, arg-type]
    return found


def meaning_of(document: Document, new: str = "", old: str = "") -> object:
    """A program as text, places aside, with the name `new` written as `old`."""
    checked = document.inspected[0]
    assert checked.program is not None, [str(d) for d in checked.diagnostics]
    text = json.dumps(without_source(checked.program.model_dump(mode="json")))
    return json.loads(text.replace(new, old) if new else text)


def texts() -> Iterator[str]:
    """Programs of a person, and generated ones; what a runtime cannot hold is another test's business."""
    yield PROGRAM
    yield NEMOTRON.read_text("utf-8")
    for seed in range(1000, 1040):
        yield re.sub(r"^export .*\n", "", program(random.Random(seed)), flags=re.MULTILINE)


@pytest.mark.drawn
def test_every_name_is_known_once_and_renaming_any_keeps_what_the_program_means(tmp_path: Path) -> None:
    documents = (opened(text, tmp_path, project=Project(folders=[tmp_path])) for text in texts())
    programs = list(islice((d for d in documents if d.inspected[0].program is not None), cases(16)))
    assert len(programs) == cases(16)
    for number, before in enumerate(programs):
        spans = [o.span for o in before.names]
        assert len(spans) == len({*spans})
        assert {*spans} == {n.span for n in tree.walk(before.file.module) if isinstance(n, tree.Name)}
        assert [o.name for o in before.names if o.symbol is None] == []
        declared = [o for o in before.names if o.role == "declares"]
        for chosen in random.Random(number).sample(declared, 4 if number < 2 else 2):
            (changed,) = applied(before, chosen.span.line, chosen.span.column, NEW).values()
            after = opened(changed, tmp_path, project=Project(folders=[tmp_path]))
            assert meaning_of(before) == meaning_of(after, NEW, chosen.name), (before.text, chosen.name)


def test_a_word_of_the_same_name_stays(tmp_path: Path) -> None:
    document, line, column = marked(PROGRAM.replace("search cpsat", "search cp‸sat"), tmp_path)
    (changed,) = applied(document, line, column, NEW).values()
    assert f"search {NEW} of w" in changed
    assert "solver = cpsat" in changed


def test_across_files(tmp_path: Path) -> None:
    (tmp_path / "lib.pzl").write_text(LIB, "utf-8")
    (tmp_path / "other.pzl").write_text('use "lib.pzl" as lib\nlet a = lib.half(amount: lib.few)\n', "utf-8")
    document, line, column = marked('use "lib.pzl" (few, half)\nlet b = half(amount: fe‸w)\n', tmp_path)
    changed = {Path(uri).name: text for uri, text in applied(document, line, column, "several").items()}
    assert changed == {
        "program.pzl": 'use "lib.pzl" (several, half)\nlet b = half(amount: several)\n',
        "lib.pzl": LIB.replace("few", "several"),
        "other.pzl": 'use "lib.pzl" as lib\nlet a = lib.half(amount: lib.several)\n',
    }
    place = place_of(document.text, "amount")
    changed = {Path(uri).name: text for uri, text in applied(document, *place, "of_it").items()}
    assert changed["lib.pzl"] == LIB.replace("amount", "of_it")
    assert changed["other.pzl"].endswith("lib.half(of_it: lib.few)\n")


def test_a_broken_file_that_has_nothing_to_do_with_a_name_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "stranger.pzl").write_text("let a = (1\nlet b = = a\n", "utf-8")
    document, line, column = marked("let ‸a = 1\nlet b = a\n", tmp_path)
    assert applied(document, line, column, "c") == {document.uri: "let c = 1\nlet b = c\n"}
    (tmp_path / "stranger.pzl").write_text('use "program.pzl" (a)\nlet b = = a\n', "utf-8")
    with pytest.raises(Refused, match="cannot be read to its end"):
        rename(document, line, column, "c")


def test_edits_name_the_version_they_are_for(tmp_path: Path) -> None:
    document, line, column = marked("let ‸a = 1\nlet b = a\n", tmp_path)
    (change,) = rename(document, line, column, "c").document_changes or ()
    assert change.text_document.version == document.version == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "new", "why"),
    [
        ("let ‸a = 1\n", "2b", "is no name"),
        ("let ‸a = 1\n", "", "is no name"),
        ("let ‸a = 1\n", "require", "is a word of the language"),
        (
            "param m: fast | small = fast\nlet f‸ew = m == small\n",
            "small",
            "`small` stands for something else",
        ),
        ("let ‸a = 1\nlet b = a\nlet c = b\n", "b", "something else"),
        ("let a = 1\nfn f(‸b) = a + b\n", "a", "something else"),
        ("let ‸a = 1\nfn f(b) = a + b\n", "b", "something else"),
        ("let a = s‸um([1, 2])\n", "total", "is a word of the language"),
        ("let a = nobod‸y\n", "total", "nothing is called"),
        ("let a = 1 ‸+ 2\n", "total", "there is no name here"),
        ('use "std/hardware.pzl" (h100_sx‸m)\n', "mine", "comes with pzl"),
        ('use "std/hardware.pzl" as hw\nhardware h = hw.h10‸0_sxm(gpus: 2)\n', "mine", "comes with pzl"),
        ("let ‸a = 1\nlet b = (a\nlet c = = 2\n", "d", "mend its syntax first"),
        (
            PROGRAM.replace("let few = 3", "let fe‸w = parent").replace("50%) |", "50%) | few |"),
            "noop",
            "something else",
        ),
        (PROGRAM.replace("scenario chat", "scenario ch‸at"), "attention", "something else"),
    ],
)
def test_is_refused(text: str, new: str, why: str, tmp_path: Path) -> None:
    document, line, column = marked(text, tmp_path)
    with pytest.raises(Refused, match=why):
        rename(document, line, column, new)
