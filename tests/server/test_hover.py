"""Hovers say the value, the unit, the doc comment and what words mean."""

import re
from pathlib import Path

import pytest

from puzzledsl.server.navigation import hover
from tests.server.texts import CURSOR, PROGRAM, marked

MORE = """\
scenario busy on h = traffic(2 req/s, 128 -> 64, at_most: 8)
search like of w {
  maximize params
  require layers[1] same as layers[2] and runs(ffn is noop) <= sum([1, 2]) and busy.p95_ttft <= 1s
}
"""


def said(text: str, folder: Path) -> str | None:
    found = hover(*marked(text, folder))
    return None if found is None else found.contents.value  # type: ignore[union-attr]


def at(word: str, text: str) -> str:
    """A text with the cursor in the first place where a word stands."""
    assert word in text
    return text.replace(word, word[0] + CURSOR + word[1:] if len(word) > 1 else CURSOR + word, 1)


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("headroom: Ratio", ["param headroom: Ratio = 95%"]),
        ("half(x)", ["fn half(x) = x / 2"]),
        ("p = shape", ["A small parent.", "4 layers", "8 heads of 8", "parameters"]),
        ("h = h100", ["profile `h100_sxm`", "80GiB", "3.35TB/s", "weights fp8"]),
        ("w of p", ["36864 children"]),
        ("limit = headroom", ["let limit = headroom * h.memory", "= 76GiB"]),
        ("memory <= limit", ["`chat.memory` (Bytes)", "reserve + `weights` + `kv_cache`"]),
        ("chat.memory", ["batch(4, 128 -> 64)"]),
        ("memory\n  require", ["Memory of one GPU", "= 80GiB"]),
        ("search cpsat", ["Chooses one alternative", "search s of w"]),
        ("require chat", ["`require`: A constraint"]),
        ("implies", ["If the left side holds"]),
        ("same as", ["`same as`: Two layers choose the same"]),
        ("runs", ["How many runs of consecutive layers"]),
        ("train", ["decoupled"]),
        ("normalized_mse", ["Puzzle, section 3"]),
        ("replace_one", ["`metric`", "`samples`"]),
        ("sum", ["The sum"]),
        ("Ratio", ["95%"]),
        ("h100_sxm", ["NVIDIA H100 SXM5 80 GB.", "from `std/hardware.pzl`"]),
        ('"std/hardware.pzl"', ["hardware.pzl"]),
        ("p95_ttft <= 1s", ["`busy.p95_ttft` (Time)"]),
        ("cpsat\n}", ["`cpsat`: Proven optimal"]),
    ],
)
def test_says(word: str, parts: list[str], tmp_path: Path) -> None:
    found = said(at(word, PROGRAM + MORE), tmp_path)
    assert found is not None
    for part in parts:
        assert part in found


@pytest.mark.parametrize("text", ["# comm‸ent\n", "let a = 1‸k\n", "let a = ‸ \n", 'let a = "st‸ring"\n'])
def test_says_nothing(text: str, tmp_path: Path) -> None:
    assert said(text, tmp_path) is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ('"a" + " text"', '"a text"'),
        ("p.tied", "false"),
        ("1 | 2", None),  # as it is written
        ("|".join(map(str, range(20))), "0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | …"),
        ("if few == 3 then mlp(width:   50%) | noop else noop", "mlp(width: 50%) | noop"),
        ("[1024MiB, 2GiB]", "[1GiB, 2GiB]"),
        ("few..3 * few", "3..9"),
        ("few..3 * few step 2", "3..9 step 2"),
        ("half", "a function"),
        ("h", "hardware"),
        ("nobody", None),
        ("sum(ffn.width)", "a plain number, decided by the search"),
        ("chat.memory * 2", "Bytes, decided by the search"),
        ("layers[0..1]", "2 layers"),
        ("layers[1]", "1 layer"),
        ("layers[1].ffn", "a sub-block, decided by the search"),
        ("ffn.width", "one width a layer, decided by the search"),
        ("layers[1] is noop", "a statement about layers"),
        ("few * 2", "6"),
    ],
)
def test_a_let_of_a_search_says_its_value(value: str, shown: str | None, tmp_path: Path) -> None:
    found = said(PROGRAM.replace("let limit =", f"let thi{CURSOR}s = {value}\n  let limit ="), tmp_path)
    assert found is not None
    assert re.findall("^= (.*)$", found, re.MULTILINE) == ([shown] if shown else [])


def test_heads_of_declarations(tmp_path: Path) -> None:
    (tmp_path / "lib.pzl").write_text("let one = 1\n", "utf-8")
    for text, head in {
        f'use "lib.pzl" as li{CURSOR}b\nlet a = lib.one\n': 'use "lib.pzl" as lib',
        f"let broke{CURSOR}n = (1 + \n": "let broken = (1 +",
        f"param ki{CURSOR}nd: a | b = a\n": "param kind: a | b = a",
        f"param k{CURSOR}: Count\n": "param k: Count",
        f"let lo{CURSOR}ng = [{', '.join(map(str, range(100)))}]\n": "let long = [0, 1, 2",
    }.items():
        found = said(text, tmp_path)
        assert found is not None and found.startswith(f"```pzl\n{head}"), found
