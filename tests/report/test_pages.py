"""Pages of builds: goldens of what they say, and laws of every page.

`finished.txt` is the page of the finished build as text; `NAME.diff` says what differs on the page of each variant.
"""

import difflib
import itertools
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, NoOpAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention
from puzzledsl.base.build_dir import BuildDir
from puzzledsl.base.version import __version__
from puzzledsl.cli.main import run
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import SearchResult
from puzzledsl.report.pictures.architecture import appearance
from puzzledsl.report.subject import load_artefacts
from puzzledsl.report.write import render, write_report
from tests.report.conftest import Built, but
from tests.report.variants import VARIANTS, declared, finished
from tests.search.instances import SHAPE

GOLDENS = Path(__file__).with_name("goldens")
VOID = {"meta", "link", "br", "img", "input", "hr"}
INLINE = {"a", "b", "code", "data", "em", "i", "small", "span", "strong", "text", "title", "tspan"}


class Page(HTMLParser):
    """A page read back: its text a block a line, `<data>` values with their text, attributes, and unbalanced tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.numbers: list[tuple[float, str]] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.lines: list[str] = [""]
        self._value: float | None = None
        self.feed(html)
        self.close()
        assert not self.stack, f"open at the end: {self.stack}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.attributes.append((tag, found))
        if tag in ("td", "th"):
            self.lines[-1] += " | "
        elif tag not in INLINE and not {"td", "th"} & set(self.stack):
            self.lines.append("")
        told = [found[name] for name in ("aria-label", "title") if found.get(name)]
        self.lines[-1] += "".join(f" [{text}] " for text in told)
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "data":
            self._value = float(str(found["value"]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack, f"</{tag}> closes nothing"
        assert self.stack.pop() == tag, f"</{tag}> in {self.stack}"
        if tag not in INLINE and not {"td", "th"} & {*self.stack, tag}:
            self.lines.append("")

    def handle_data(self, data: str) -> None:
        if "style" in self.stack or "script" in self.stack:
            return
        self.lines[-1] += data
        if self._value is not None and self.stack[-1] == "data":
            self.numbers.append((self._value, data))
            self._value = None

    @property
    def said(self) -> list[str]:
        """Return the text that is read, a block a line, with single blanks."""
        lines = (" ".join(line.replace(__version__, "VERSION").split()) for line in self.lines)
        return [line for line in lines if line]


@pytest.fixture(scope="module")
def page(built: Built) -> Page:
    """The page of the finished build."""
    return Page(write_report(built.program, built.build, built.source).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_page_says_what_its_golden_says(built: Built, page: Page, name: str) -> None:
    read = Page(render(VARIANTS[name](built), built.source))
    golden, said = GOLDENS / "finished.txt", page.said
    if name != "finished":
        golden = GOLDENS / f"{name}.diff"
        said = list(difflib.unified_diff(page.said, read.said, n=0, lineterm=""))
    if os.environ.get("PZL_UPDATE_GOLDENS"):
        golden.write_text("".join(f"{line}\n" for line in said), "utf-8")
    assert said == golden.read_text("utf-8").splitlines()
    for value, text in read.numbers:
        assert text in ("at chance", "not finite") or is_shown(value, text), (value, text)


def is_shown(value: float, text: str) -> bool:
    """Return True if a text is its value rounded, in whichever unit."""
    units = {
        "": 1, "k": 1e3, "M": 1e6, "B": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "s": 1, "ms": 1e-3,
        "us": 1e-6, "%": 1e-2, "×": 1, "tok/s": 1,
    }  # fmt: skip
    match = re.fullmatch(r"([−+±]?)([\d.,e-]+)\s?(.*)", text)
    assert match, text
    shown = float(match[2].replace(",", "")) * units[match[3]] * (-1 if match[1] == "−" else 1)
    return shown == pytest.approx(value, rel=0.006, abs=0.0006)


def test_every_figure_is_on_the_page_exactly(page: Page, built: Built) -> None:
    """Measured ones of parent, child and trained child, and the search's."""
    values = {value for value, _ in page.numbers}
    for model in built.evaluation.models:
        for key, figure in model.figures.items():
            if model.model in ("parent", "fast", "final"):
                assert figure.value in values, (model.model, key)
    fast = built.results["fast"]
    assert {fast.objective, fast.bound, fast.gap} <= values


def test_the_page_needs_nothing_else(page: Page, built: Built) -> None:
    html = built.build.report.read_text(encoding="utf-8")
    ids = {str(found["id"]) for _, found in page.attributes if found.get("id")}
    for tag, attributes in page.attributes:
        assert tag not in ("link", "img", "iframe", "object"), tag
        assert "src" not in attributes
        href = attributes.get("href")
        assert href is None or (href.startswith("#") and href[1:] in ids), href
    assert not any(word in html.replace("HuggingFace", "") for word in ("url(", "@import", "http"))
    assert len(html) < 300_000
    assert {path.stem for path in GOLDENS.iterdir()} == set(VARIANTS)


HOSTILE = '"><script>alert(1)</script><img src=x onerror=1>{{ 7*191 }}'


def test_nothing_written_by_others_becomes_markup(built: Built) -> None:
    found = finished(built)
    search, parent = built.program.searches["fast"], built.program.parents["smol"]
    requirements = tuple(
        but(r, because=HOSTILE, where=but(r.where, text=HOSTILE)) for r in search.requirements
    )
    declared(found, "searches", "fast", doc=HOSTILE, requirements=requirements)
    declared(found, "parents", "smol", source=but(parent.source, id=HOSTILE))
    found.program = but(found.program, source=HOSTILE)
    item = {"line": 1, "text": HOSTILE, "because": HOSTILE, "reachable": HOSTILE}
    conflict = {"search": "dream", "status": "infeasible", "conflict": [item]}
    found.results["dream"] = SearchResult.model_validate(conflict)
    found.unreadable.append(HOSTILE)
    models = found.evaluations["all"].models
    odd = but(models[0], figures={**models[0].figures, HOSTILE: models[0].figures["hellaswag"]})
    found.evaluations["all"] = but(found.evaluations["all"], models=(odd, *models[1:]))
    html = render(found, HOSTILE)
    assert "<img" not in html and html.count("<script>") == 1 and "1337" not in html
    assert "\n".join(Page(html).said).count(HOSTILE) >= 6


PARTS = ("costs", "scores", "search", "solutions", "evals", "library")


@pytest.mark.parametrize(
    "absent", [c for n in (1, 5, 6) for c in itertools.combinations(PARTS, n)], ids="-".join
)
def test_whatever_is_missing_is_left_out(built: Built, tmp_path: Path, absent: tuple[str, ...]) -> None:
    for part in PARTS:
        if part not in absent:
            (tmp_path / part).symlink_to(built.build.root / part)
    said = Page(write_report(built.program, BuildDir(tmp_path), built.source).read_text("utf-8")).said
    assert any("Initialised" in line for line in said) == ("library" not in absent)
    assert any("Kept beyond chance" in line for line in said) == ("evals" not in absent)
    assert any(line.startswith("| Layer |") for line in said) == ("solutions" not in absent)
    assert not any("nan" in line.split() for line in said)


def test_a_copy_has_the_same_page_and_damaged_files_are_named(built: Built, tmp_path: Path) -> None:
    shutil.copytree(built.build.root, tmp_path / "copy")
    build = BuildDir(tmp_path / "copy")
    page = write_report(built.program, build, built.source).read_bytes()
    assert page == write_report(built.program, built.build, built.source).read_bytes()
    program = VARIANTS["refined_plain"](built).program
    damaged = build.scores("kl"), build.refinement("fast")
    for path in damaged:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{")
    build.solution("greedy").write_bytes(b"\xff")
    index = build.library / "index.jsonl"
    whole = index.read_bytes()
    index.write_bytes(whole + b'{"torn')  # a torn last line is no damage
    named = {str(path.relative_to(build.root)) for path in (*damaged, build.solution("greedy"))}
    assert set(load_artefacts(program, build).unreadable) == named
    index.write_bytes(b'{"torn\n[1]\n' + whole)
    found = load_artefacts(program, build)
    assert sorted(found.unreadable) == sorted({*named, "library/index.jsonl"})
    assert not found.pieces
    said = "\n".join(Page(render(found, "")).said)
    assert all(name in said for name in named)


def test_a_program_of_a_parent_only_has_a_page(tmp_path: Path) -> None:
    html = write_report(Program(source="empty.pzl"), BuildDir(tmp_path), "parent p = hf(\n").read_text(
        "utf-8"
    )
    assert "empty.pzl" in "".join(Page(html).said)


TRAFFIC = """\
use "std/hardware.pzl" (h100_sxm)
parent p = shape(family: llama, layers: 4, hidden: 1024, heads: 8, kv_heads: 4, head_dim: 128, intermediate: 4096, vocab: 32000)
hardware card = h100_sxm
scenario busy on card = traffic(300 req/s, 256 -> 64, at_most: 16)
space w of p { ffn = mlp(width: 100% | 50%) | noop }
score kl of w = table("kl.csv")
search best of w { minimize kl, require busy.max_rate >= 1.2x }
"""


def test_traffic_on_a_card_is_simulated(tmp_path: Path) -> None:
    """`tests/serving/test_load.py` has what is measured beside it."""
    (tmp_path / "busy.pzl").write_text(TRAFFIC)
    (tmp_path / "kl.csv").write_text("layer,attention,ffn,kl\n,,mlp2048,1\n,,noop,5\n")
    for command in ("compile", "solve", "report"):
        assert run([command, str(tmp_path / "busy.pzl")]) == 0
    page = (tmp_path / "build" / "report.html").read_text("utf-8")
    text = re.sub(r"<[^>]*>", " ", page[page.index('id="traffic"') :])
    assert "300 req/s, 256 → 64 tokens, at most 16 at once" in text
    assert text.count("simulated") >= 2 and "measured, seed" not in text


def test_shades_of_the_strip_are_darker_for_more() -> None:
    """For a larger share of the parent's sub-block, a wider window and more bits."""
    windows = [
        GqaAttention(kv_heads=SHAPE.kv_heads, window=w, sinks=4 if w else 0) for w in (None, 8192, 1024, 128)
    ]
    shades = [appearance(each, SHAPE)[1] for each in (ParentAttention(), *windows, NoOpAttention())]
    assert shades[:2] == [1, pytest.approx(0.9)] and all(a > b + 0.06 for a, b in itertools.pairwise(shades))
    bits = [appearance(ParentAttention(dtype=d), SHAPE)[1] for d in (None, "q8_0", "q5_0", "q4_0")]
    assert all(a > b + 0.03 for a, b in itertools.pairwise(bits))
    assert appearance(LinearAttention(), SHAPE) == ("linear", 1.0)
    assert appearance(NoOpAttention(), SHAPE) == ("noop", 0.0)
    quarter = appearance(MlpFfn(width=SHAPE.intermediate // 4), SHAPE)
    assert quarter == ("reduced", pytest.approx(0.36, abs=0.01))
