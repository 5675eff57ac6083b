"""Golden files of diagnostics, `errors/CODE.md`: the wrong example is wrong in just that way, the right one is right.

`PZL_UPDATE_GOLDENS=1` rewrites what is said about an example that the checker reads; read the difference before you commit it.
"""

import os
import re
from pathlib import Path

import pytest

from puzzledsl.base.render import render
from puzzledsl.base.resources import Explanation
from puzzledsl.checker.check import Checked, check
from puzzledsl.cli.commands.explain import all_codes, listing
from puzzledsl.language.kinds import KINDS
from puzzledsl.language.words import TOP_KEYWORDS
from tests.cli.conftest import Pzl

ROOT = Path(__file__).parents[2]
PRELUDE = """\
parent p = shape(family: llama, layers: 4, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8,
  intermediate: 192, vocab: 256)
hardware h = measured(device: cpu, memory: 16GiB)
scenario chat on h = batch(4, 128 -> 64)
space w of p { attention = gqa(kv_heads: 4 | 2 | 1) | linear | noop, ffn = mlp(width: 100% | 50%) | noop }
score kl of w = table("kl.csv")
"""
"""What stands behind every example, so that an example shows only its own mistake."""
EXPLANATIONS = {code: Explanation.of(kind) for code, kind in all_codes().items()}
TOO_LARGE_TO_SHOW = {"E0012", "E0013", "E0014", "E0015", "E0016"}
"""Their examples are described in words: a file too deep, too wrong, too large, not text, not there."""
OF_SURROUNDINGS = {"W0204", "E0711", "E0737"}
"""The checker says these of what is installed, or of the files of a parent."""
OF_LANGUAGE = ["base/diagnostics.py", *("syntax/**/*.py", "checker/**/*.py", "alternatives/**/*.py")]
LANGUAGE = [
    code
    for files in OF_LANGUAGE
    for path in sorted((ROOT / "puzzledsl").glob(files))
    for code in re.findall(r'= Mistake\(\s*"(\w+)"', path.read_text("utf-8"))
    if code not in TOO_LARGE_TO_SHOW | OF_SURROUNDINGS
]
LATER = [code for code in all_codes() if code not in LANGUAGE and code not in TOO_LARGE_TO_SHOW]


def checked(example: str, folder: Path) -> Checked:
    """The outcome of an example before the prelude. Two kinds of comment set its stage: a config.json, `--set`."""
    for path, start in re.findall(r"^# (\S+/config\.json): (\{.*), …\}$", example, re.MULTILINE):
        rest = '"num_attention_heads": 9, "intermediate_size": 1536, "vocab_size": 49152'
        defaults = '"num_hidden_layers": 30, "hidden_size": 576, ' if "hidden" not in start else ""
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(f"{start}, {defaults}{rest}}}")
    program = folder / "example.pzl"
    program.write_text(f"{example}\n{PRELUDE}")
    return check(program, dict(re.findall(r"^# --set (\w+)=(.*)$", example, re.MULTILINE)))


def test_every_code_is_explained() -> None:
    assert sorted(EXPLANATIONS) == sorted(path.stem for path in (ROOT / "errors").iterdir())
    for code, it in EXPLANATIONS.items():
        assert it.summary.endswith(".") and len(it.summary) <= 130, code
        assert it.text and it.wrong and it.right and it.wrong != it.right, code


@pytest.mark.parametrize("code", LANGUAGE)
def test_the_wrong_example_is_wrong_in_just_that_way_and_the_right_one_right(
    code: str, tmp_path: Path
) -> None:
    found = checked(EXPLANATIONS[code].wrong, tmp_path)
    assert {d.code for d in found.diagnostics} == {code}
    ordered = sorted(found.diagnostics, key=lambda d: d.sort_key)
    said = "\n\n".join(render(d, found.sources, color=False, width=100) for d in ordered)
    said = said.replace(f"{tmp_path}{os.sep}", "")
    if os.environ.get("PZL_UPDATE_GOLDENS"):
        golden = ROOT / "errors" / f"{code}.md"
        golden.write_text(golden.read_text("utf-8").replace(EXPLANATIONS[code].said, said), "utf-8")
    assert said == EXPLANATIONS[code].said
    found = checked(EXPLANATIONS[code].right, tmp_path)
    assert [repr(d) for d in found.diagnostics if d.severity == "error" or d.code == code] == []


def test_what_is_said_is_what_the_template_says() -> None:
    """A later stage's message is read here as a user may see it, so its words are those of the class."""
    for code, kind in all_codes().items():
        lines = EXPLANATIONS[code].said.split("\n")
        assert _is_from(f"{kind.severity}[{code}]: {kind.template}", lines[0])
        if code not in LANGUAGE and kind.help_template not in ("", "{help}"):
            [told] = (line for line in lines if line.startswith("  = help: "))
            assert _is_from(f"  = help: {kind.help_template}", told)


def _is_from(template: str, text: str) -> bool:
    parts = re.split(r"(?<!\{)\{\w+[^{}]*\}(?!\})", template)
    wanted = ".*".join(re.escape(part.replace("{{", "{").replace("}}", "}")) for part in parts)
    return re.fullmatch(wanted, text) is not None


@pytest.mark.parametrize("code", LATER)
def test_programs_of_later_stages_pass_the_check(code: str, tmp_path: Path) -> None:
    """Their mistakes show only when a stage runs, so both examples are programs that check, where they are programs."""
    it = EXPLANATIONS[code]
    for example in (it.wrong, it.right):
        first = re.split(r"\W", re.sub(r"^#.*\n", "", example), maxsplit=1)[0]
        if first not in (*KINDS, *TOP_KEYWORDS) or re.search(r"\bhf\(", example):
            continue
        found = checked(_completed(example), tmp_path)
        mistakes = [repr(d) for d in found.diagnostics if d.severity == "error"]
        assert not mistakes, mistakes


def _completed(example: str) -> str:
    """An example with the declarations that it takes for granted."""
    lines = [example]
    if re.search(r"\bof s\b", example) and not re.search(r"^search s\b", example, re.MULTILINE):
        lines.append("search s of w { minimize kl }")
    for name in re.findall(r"data = (\w+)", example):
        if not re.search(rf"^data {name}\b", example, re.MULTILINE):
            lines.append(f'data {name} = text("{name}.txt")')
    return "\n".join(lines)


def test_explain_prints_message_text_and_examples(pzl: Pzl) -> None:
    for spelling in ("E0301", "e0301", "e301", "301"):
        said = pzl("explain", spelling).out
        assert said.startswith(
            "error[E0301]: `…` compares … with …\n\nA comparison of two different dimensions.\n"
        )
        assert "\nWrong:\n\n    search s" in said and "<= 12_000" in said and "<= 12GiB" in said


def test_a_number_is_enough_and_an_unknown_code_is_a_did_you_mean(pzl: Pzl) -> None:
    assert pzl("explain", "412").out.startswith("warning[W0412]: ")
    said = re.sub(r"[\s│]+", " ", pzl("explain", "E0320", code=2).err)  # without the frame that typer draws
    assert "there is no code `E0320`; did you mean `E0310`?" in said
    assert "`pzl explain` lists them" in re.sub(r"[\s│]+", " ", pzl("explain", "nonsense", code=2).err)


def test_without_a_code_all_are_listed(pzl: Pzl) -> None:
    said = pzl("explain").out
    assert said == listing(list(EXPLANATIONS.values()))
    assert [line.split()[0] for line in said.split("\n") if re.match("  [EW]", line)] == list(all_codes())
