"""`pzl check`: formats for machines, fixes that never make anything worse, warnings that may be denied."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puzzledsl.checker.check import check
from puzzledsl.cli.checking import FixRun
from puzzledsl.cli.main import run
from tests.cases import cases
from tests.cli.conftest import Pzl

SOUND = """\
use "std/hardware.pzl" (h100_sxm)
use "std/parents.pzl" (llama3_1_8b)
parent llama = hf("meta-llama/Llama-3.1-8B-Instruct", shape: llama3_1_8b)
hardware h100 = h100_sxm(memory: 80GiB, gpus: 1, dtype: fp8, kv_cache: fp8)
scenario chat on h100 = batch(64, 128 -> 1024)
space wide of llama {
  attention = parent | gqa(kv_heads: 4 | 2) | noop
  ffn = parent | mlp(width: 75% | 50%) | noop
  layers[..1].attention -= noop
}
search small of wide {
  maximize params
  require chat.memory <= 12GiB and chat.throughput >= 200 tok/s
}
"""
SLIPS = [  # what is written, what was meant
    ("chat.memory", "chat.memroy"),
    ("search small", "serach small"),
    ("chat.", "chta."),
    ("maximize", "maximise"),
    ("12GiB", "12GIB"),
    ("and chat", "&& chat"),
    ("and chat", "&&chat"),
    ("(memory: 80GiB", "(memory = 80GiB"),
    ("200 tok/s", "200"),
    ("parent llama =", "parent llama =="),
    ("12GiB", "12 GiB"),
    ("kv_heads:", "kv_head:"),
    ("shape: llama3_1_8b", "shape: llama3_1_8"),
    ('"std/parents.pzl"', '"std/parent.pzl"'),
    ("dtype: fp8", "dtype: fp_8"),
    ("wide {\n  max", "wide\n  max"),
    ("<= 12", "≤ 12"),
    ("-> 1024", "→ 1024"),
    (" | noop\n  ffn", " | nop\n  ffn"),
]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("wide.pzl")


def test_json_is_the_documented_document(program: Path, pzl: Pzl) -> None:
    program.write_text(SOUND.replace("chat.memory", "chat.memroy"))
    found = json.loads(pzl("check", "wide.pzl", "--json", code=1).out)
    assert found["format_version"] == "1.0"
    assert found["diagnostics"] == [
        {
            "code": "E0206",
            "severity": "error",
            "message": "scenario `chat` has no `memroy`",
            "file": "wide.pzl",
            "start": {"line": 13, "column": 16},
            "end": {"line": 13, "column": 22},
            "help": "did you mean `memory`?",
            "related": [],
        }
    ]


def test_places_are_in_the_file_that_was_used(program: Path, tmp_path: Path, pzl: Pzl) -> None:
    Path("parts").mkdir()
    Path("parts/my sizes.pzl").write_text("let limit = 12GIB\nlet other = 3\n")
    program.write_text('use "parts/my sizes.pzl"\n' + SOUND.replace("12GiB", "limit"))
    (found,) = json.loads(pzl("check", tmp_path / "wide.pzl", "--json", code=1).out)["diagnostics"]
    assert Path(found["file"]) == tmp_path / "parts" / "my sizes.pzl" and found["start"]["line"] == 1


@pytest.mark.parametrize(("right", "wrong"), SLIPS, ids=lambda text: text.strip().split("\n")[0])
def test_a_slip_is_mended(right: str, wrong: str, program: Path, pzl: Pzl) -> None:
    program.write_text(SOUND.replace(right, wrong))
    said = pzl("check", "wide.pzl", "--fix")
    assert said.out.startswith("fixed wide.pzl:") and said.out.endswith("no errors\n")
    assert said.err == ""
    mended = check(program, {}).program
    program.write_text(SOUND)
    assert mended == check(program, {}).program or "200" in right


def test_line_ends_and_byte_order_mark_stay(program: Path) -> None:
    program.write_bytes(b"\xef\xbb\xbf" + SOUND.replace("12GiB", "12GIB").replace("\n", "\r\n").encode())
    assert run(["check", "wide.pzl", "--fix"]) == 0
    assert program.read_bytes() == b"\xef\xbb\xbf" + SOUND.replace("\n", "\r\n").encode()


def test_a_used_file_is_mended_and_a_shipped_one_never(program: Path) -> None:
    Path("sizes.pzl").write_text("let limit = 12GIB\n")
    program.write_text('use "sizes.pzl"\n' + SOUND.replace("12GiB", "limit"))
    assert run(["check", "wide.pzl", "--fix"]) == 0
    assert Path("sizes.pzl").read_text() == "let limit = 12GiB\n"


@settings(max_examples=cases(25), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.sampled_from(SLIPS), min_size=2, max_size=4), st.integers(0, 400), st.sampled_from("{}()=|x")
)
def test_fixing_never_makes_it_worse(
    tmp_path: Path, slips: list[tuple[str, str]], place: int, noise: str
) -> None:
    text = SOUND
    for right, wrong in slips:
        text = text.replace(right, wrong)
    text = text[:place] + noise + text[place:]
    file = tmp_path / "wide.pzl"
    file.write_text(text)
    before = check(file, {}).diagnostics
    fix_run = FixRun(file, {})
    after = fix_run.run()
    fix_run.write()
    errors, left = (sum(d.severity == "error" for d in each) for each in (before, after.diagnostics))
    assert left <= errors
    assert [repr(d) for d in check(file, {}).diagnostics] == [repr(d) for d in after.diagnostics]
    again = FixRun(file, {})
    again.run()
    assert again.made == []


WARNS = SOUND.replace("layers[..1].attention -= noop", "layers[..1].attention -= linear")


def test_warnings_alone_are_no_failure_unless_denied(program: Path, pzl: Pzl) -> None:
    program.write_text(WARNS)
    assert "warning[W0412]" in pzl("check", "wide.pzl").err
    pzl("check", "wide.pzl", "--deny", "warnings", code=1)
    pzl("check", "wide.pzl", "--deny", "W0412", code=1)


def test_denying_what_is_no_warning_is_a_usage_error(program: Path, pzl: Pzl) -> None:
    program.write_text(SOUND)
    for options, said in {
        "--deny warning": "did you mean `warnings`?",
        "--deny E0201": "E0201",
        "--allow E0201": "E0201",
        "--allow warnings": "warnings",
        "--allow W1209 --deny W1209": "`W1209` is denied as well",
    }.items():
        assert said in pzl("check", "wide.pzl", *options.split(), code=2).err


STAGES = """\
data mine  = text("a/*.txt", "b.txt")
data other = jsonl("c.jsonl")
data both  = mix(mine: 2, other: 1)
data _idle = text("idle.txt")
bld pieces of wide { tokens = 1M, data = both }
score right of pieces = replace_one(accuracy("tasks.jsonl"))
eval seen of small = tasks("tasks.jsonl") { data = other }
"""


def test_texts_that_later_stages_need_are_missed(program: Path, pzl: Pzl) -> None:
    program.write_text(SOUND + STAGES)
    Path("b.txt").write_text("here")
    found = [
        d for d in json.loads(pzl("check", "wide.pzl", "--json").out)["diagnostics"] if d["code"] == "W1209"
    ]
    assert [(d["start"]["line"], d["message"]) for d in found] == [
        (15, "no file matches `a/*.txt`, needed by bld `pieces` and score `right`"),
        (16, "no file matches `c.jsonl`, needed by eval `seen`, bld `pieces` and score `right`"),
        (21, "no file matches `tasks.jsonl`, needed by eval `seen`"),
        (20, "no file matches `tasks.jsonl`, needed by score `right`"),
    ]
    pzl("check", "wide.pzl", "--deny", "W1209", code=1)
    assert (
        "W1209"
        not in pzl("check", "wide.pzl", "--deny", "warnings", "--allow", "W1209", "--allow", "W1216").err
    )
    Path("a").mkdir()
    for name in ("a/1.txt", "c.jsonl", "tasks.jsonl"):
        Path(name).write_text("here")
    pzl("check", "wide.pzl", "--deny", "W1209")


BROKEN = Path(__file__).parent / "broken"
"""Broken programs, and the whole of what pzl says of each. `PZL_UPDATE_GOLDENS=1` rewrites the `.err` files; read them."""


@pytest.mark.parametrize("name", sorted(path.stem for path in BROKEN.glob("*.pzl")))
def test_a_broken_program_is_told_word_for_word(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pzl: Pzl
) -> None:
    monkeypatch.chdir(BROKEN)
    monkeypatch.setenv("NO_COLOR", "1")
    words = ["solve", "-o", str(tmp_path)] if name == "impossible_requirement" else ["check"]
    said = pzl(*words, f"{name}.pzl", code=1)
    assert said.out == ""
    golden = BROKEN / f"{name}.err"
    if os.environ.get("PZL_UPDATE_GOLDENS"):
        golden.write_text(said.err)
    assert said.err == golden.read_text()
