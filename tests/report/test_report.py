from __future__ import annotations

import itertools
import re
import shutil
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from puzzledsl.base.build_dir import BuildDir
from puzzledsl.costs.metrics import metrics_of
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import Figure, LayerAssignment, SearchResult
from puzzledsl.report.artefacts import load_artefacts
from puzzledsl.report.numbers import change, share, times
from puzzledsl.report.write import render, write_report

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """A page read back: `<data>` values with their text by section, tables as rows of cells, and unbalanced
    tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.numbers: list[tuple[float, str]] = []
        self.tables: list[list[list[str]]] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.ids: set[str] = set()
        self._value: float | None = None
        self.feed(html)
        self.close()
        assert not self.stack, f"open at the end: {self.stack}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.attributes.append((tag, found))
        if found.get("id"):
            self.ids.add(str(found["id"]))
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "data":
            self._value = float(str(found["value"]))
        elif tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack, f"</{tag}> closes nothing"
        assert self.stack.pop() == tag, f"</{tag}> in {self.stack}"

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self._value is not None and self.stack[-1] == "data":
            self.numbers.append((self._value, data))
            self._value = None
        if "td" in self.stack or "th" in self.stack:
            self.tables[-1][-1][-1] += data

    def table(self, heading: str) -> list[list[str]]:
        """The table whose header has this cell."""
        return next(t for t in self.tables if any(heading in cell for cell in t[0]))

    @property
    def values(self) -> list[float]:
        return [value for value, _ in self.numbers]


@pytest.fixture(scope="module")
def page(built: Any) -> Page:
    return Page(write_report(built.program, built.build, built.source).read_text(encoding="utf-8"))


def test_every_measured_figure_is_on_the_page_exactly(page: Page, built: Any) -> None:
    """All figures of parent, child and trained child; those of baselines that the comparison shows."""
    for model in built.evaluation.models:
        for key, figure in model.figures.items():
            if model.model in ("parent", "fast", "final") or key in ("kl", "perplexity"):
                assert figure.value in page.values, (model.model, key)


def test_every_search_number_is_on_the_page_exactly(page: Page, built: Any) -> None:
    fast = built.results["fast"]
    assert {fast.objective, fast.bound, fast.gap} <= set(page.values)
    for name in ("fast", "greedy", "uniform", "drop"):
        assert built.results[name].objective in page.values
    assert (
        built.results["large"].solutions[0].metrics["kl"] in page.values
    )  # the main objective for another's child


def test_texts_say_what_their_values_are(page: Page) -> None:
    """A shown text is its value rounded, in whichever unit."""
    units = {
        "": 1, "k": 1e3, "M": 1e6, "B": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "s": 1, "ms": 1e-3,
        "us": 1e-6, "%": 1e-2, "×": 1, "tok/s": 1,
    }  # fmt: skip
    assert len(page.numbers) > 250
    for value, text in page.numbers:
        match = re.fullmatch(r"([−+±]?)([\d.,e-]+)\s?(.*)", text)
        assert match, text
        shown = float(match[2].replace(",", "")) * units[match[3]] * (-1 if match[1] == "−" else 1)
        assert shown == pytest.approx(value, rel=0.006, abs=0.0006), (value, text)


def test_headline(page: Page, built: Any) -> None:
    models = {m.model: m.figures for m in built.evaluation.models}
    speed = models["fast"]["chat.throughput"].value / models["parent"]["chat.throughput"].value
    kept = (models["final"]["hellaswag"].value - 0.25) / (models["parent"]["hellaswag"].value - 0.25)
    smaller = models["final"]["params"].value / models["parent"]["params"].value - 1
    numbers = page.numbers[:4]
    assert numbers[0] == (speed, times(speed).text)
    assert numbers[1] == (0.08834, "0.0883")
    assert numbers[2] == (pytest.approx(kept), share(kept).text)
    assert numbers[3] == (smaller, change(smaller).text)
    assert "faster, measured" in page.text and "of accuracy kept, beyond chance" in page.text
    assert "95 % interval 81.3 … 104.3 %; hellaswag: 43.1% → 41.8%, chance 25.0%" in page.text


def test_what_each_child_keeps_is_a_table(page: Page, built: Any) -> None:
    tables = [t for t in page.tables if "Kept beyond chance" in t[0]]
    assert len(tables) == 2
    for table, comparison in zip(tables, built.evaluation.comparisons, strict=False):
        rows = {row[0]: row[1:] for row in table[1:]}
        kept = comparison.kept["hellaswag"]
        assert list(rows) == ["hellaswag", "puns", "pooled"]
        assert rows["hellaswag"][0] == share(kept.chance_corrected).text
        assert rows["hellaswag"][1] == f"{kept.low * 100:.1f} … {kept.high * 100:.1f} %"
        assert rows["puns"][0:2] == ["parent at chance", ""]
    assert "where the parent is at chance (puns) nothing can be kept" in " ".join("".join(page.text).split())


def test_proven_is_said_of_the_objective_alone(page: Page) -> None:
    """Everywhere on the page: a proof is one of the search, its bound or its objective."""
    text = " ".join("".join(page.text).split())
    assert "The search proves this of its objective only" in text
    assert "Quality is measured, not proven" in text


def test_predictions_are_those_of_the_search(page: Page, built: Any) -> None:
    solution = built.results["fast"].solutions[0]
    costs = built.costs.scenarios["chat"][0]
    predicted = float(metrics_of(costs, solution.layers)["throughput"])
    measured = next(m for m in built.evaluation.models if m.model == "fast").figures["chat.throughput"].value
    row = next(r for r in page.table("too low") if r[0] == "throughput, tok/s child")
    assert row[1:4] == [f"{predicted:,.0f}", f"{measured:,.0f}", change(predicted / measured - 1).text]


def test_the_strip_shows_the_solution(page: Page, built: Any) -> None:
    cells = [
        a for tag, a in page.attributes if tag == "i" and "cell" in (a.get("class") or "") and "title" in a
    ]
    layers = built.results["fast"].solutions[0].layers
    assert len(cells) == 2 * len(layers)
    for index, layer in enumerate(layers):
        for row, name in ((0, layer.attention), (1, layer.ffn)):
            title = cells[row * len(layers) + index]["title"] or ""
            assert title.startswith(f"layer {index} · {('attention', 'FFN')[row]} · {name} · prefill ")
            assert (name == "noop") == ("noop" in (cells[row * len(layers) + index]["class"] or ""))
    table = page.table("Layer")
    assert [r[1:3] for r in table[1:]] == [[x.attention, x.ffn] for x in layers]
    counts = Counter(x.attention for x in layers)
    picture = next(a for tag, a in page.attributes if tag == "figure" and a.get("role") == "img")
    assert f"{counts['gqa1']} × gqa1" in (picture["aria-label"] or "")


def test_layers_times_and_scores_add_up(page: Page, built: Any) -> None:
    html = page.table("Layer")
    assert sum(float(r[4].removesuffix(" %")) for r in html[1:]) == pytest.approx(100, abs=1.5)
    scores = [float(r[5]) for r in html[1:]]
    assert sum(scores) == pytest.approx(built.results["fast"].solutions[0].metrics["kl"], rel=1e-3)


def test_requirements_say_required_predicted_and_measured(page: Page, built: Any) -> None:
    rows = {r[0][1:].split("\xa0")[0]: r for r in page.table("Requirement")[1:]}
    solution, parent = built.results["fast"].solutions[0], built.results["fast"].parent_metrics
    figures = {m.model: m.figures for m in built.evaluation.models}
    speed = rows["chat.throughput >= 1.5x"]
    assert speed[1] == "1.5×"
    predicted = solution.metrics["chat.throughput"]
    assert speed[2] == f"{predicted / parent['chat.throughput']:.4g}× {predicted:,.0f} tok/s"
    measured = [figures[m]["chat.throughput"].value for m in ("parent", "fast")]
    assert speed[3] == f"{measured[1] / measured[0]:.4g}× {measured[1]:,.0f} tok/s"
    latency = rows["rag.latency <= 900ms"]
    assert latency[1] == "900ms"
    assert latency[2] != latency[3] != ""
    assert rows["chat.memory <= 20GiB"][3] == ""
    assert rows["sum(attention.kv_heads) <= 60"][2] == str(
        sum({"parent": 3, "gqa1": 1}.get(x.attention, 0) for x in solution.layers)
    )
    assert rows["count(attention is noop) <= 12"][2] == str(
        sum(x.attention == "noop" for x in solution.layers)
    )
    assert any("29\xa0instances" in r[0] for r in rows.values())
    assert measured[1] / measured[0] < 1.5 < predicted / parent["chat.throughput"]
    assert [name for name, r in rows.items() if not r[0].startswith("✓")] == ["chat.throughput >= 1.5x"]


def test_a_requirement_that_does_not_hold_is_marked(built: Any) -> None:
    slow = built.results["drop"].model_copy(update={"search": "fast"})
    found = load_artefacts(built.program, built.build)
    found.results["fast"] = slow
    found.evaluations.clear()
    page = Page(render(found, ""))
    rows = page.table("Requirement")[1:]
    assert next(r for r in rows if "chat.throughput" in r[0])[0].startswith("✗")
    assert next(r for r in rows if "params" in r[0])[0].startswith("✓")


@pytest.mark.parametrize(
    ("speed_up", "stderr", "mark", "off"),
    [(1.6, 0.0, "✓", False), (1.49, 0.0, "✗", False), (1.49, 20.0, "≈", False), (1.1, 20.0, "✗", True)],
)
def test_the_measured_figure_decides(
    built: Any, speed_up: float, stderr: float, mark: str, off: bool
) -> None:
    """A child that was predicted to be fast enough is not ticked if the clock says otherwise."""
    found = load_artefacts(built.program, built.build)
    solved = found.results["fast"]
    rate = 1.52 * solved.parent_metrics["chat.throughput"]
    best = solved.solutions[0]
    metrics = best.metrics | {"chat.throughput": rate}
    found.results["fast"] = solved.model_copy(
        update={"solutions": (best.model_copy(update={"metrics": metrics}),)}
    )
    [(name, evaluation)] = found.evaluations.items()
    models = tuple(
        m.model_copy(
            update={
                "figures": m.figures
                | {
                    "chat.throughput": Figure(
                        value=1000.0 * (1 if m.model == "parent" else speed_up), stderr=stderr
                    )
                }
            }
        )
        for m in evaluation.models
    )
    found.evaluations[name] = evaluation.model_copy(update={"models": models})
    row = next(r for r in Page(render(found, "")).table("Requirement") if "chat.throughput" in r[0])
    assert row[0].startswith(mark)
    assert row[2].startswith("1.52×")
    assert row[3].startswith(f"{speed_up}×")
    assert ("the prediction is off by" in row[0]) is off


def test_conflicts_and_library_and_frontier(page: Page, built: Any) -> None:
    conflict = page.table("Best with the others kept")
    assert conflict[1][0].startswith("require chat.throughput >= 9x")
    assert conflict[1][1] == "3.12x"
    gqa = [p for p in built.pieces if p.job.attention and p.job.attention.kind == "gqa"]
    row = next(r for r in page.table("Initialised") if r[0].startswith("gqa1"))
    assert row[1] == str(len(gqa))
    assert float(row[2]) == pytest.approx(sum(p.loss_initial for p in gqa) / len(gqa), rel=5e-3)
    assert float(row[3]) == pytest.approx(sum(p.loss_final for p in gqa) / len(gqa), rel=5e-3)
    assert "1 of 7 points have no solution." in page.text


def test_the_page_needs_nothing_else(page: Page, built: Any) -> None:
    html = built.build.report.read_text(encoding="utf-8")
    for tag, attributes in page.attributes:
        assert tag not in ("link", "img", "iframe", "object"), tag
        assert "src" not in attributes
        href = attributes.get("href")
        assert href is None or (href.startswith("#") and href[1:] in page.ids), href
    assert "url(" not in html
    assert "@import" not in html
    assert "http" not in html.replace("HuggingFace", "")
    assert len(html) < 300_000


def test_the_source_is_whole(page: Page, built: Any) -> None:
    lines = re.findall(
        r'<li id="L(\d+)"><code>(.*?)</code></li>', built.build.report.read_text(encoding="utf-8")
    )
    assert [int(n) for n, _ in lines] == list(range(1, len(built.source.splitlines()) + 1))
    text = [re.sub(r"</?i[^>]*>", "", code) for _, code in lines]
    assert (
        text[4] == "data books = text(&#34;corpus/*.txt&#34;)                "
        "# plain text, &lt;b&gt;not&lt;/b&gt; markup"
    )


HOSTILE = '"><script>alert(1)</script><img src=x onerror=1>{{ 7*191 }}'


def test_nothing_written_by_others_becomes_markup(built: Any) -> None:
    program, found = built.program, load_artefacts(built.program, built.build)
    search = program.searches["fast"]
    requirements = tuple(
        r.model_copy(update={"because": HOSTILE, "where": r.where.model_copy(update={"text": HOSTILE})})
        for r in search.requirements
    )
    parent = program.parents["smol"]
    changed = program.model_copy(
        update={
            "source": HOSTILE,
            "searches": {
                **program.searches,
                "fast": search.model_copy(update={"doc": HOSTILE, "requirements": requirements}),
            },
            "parents": {
                "smol": parent.model_copy(update={"source": parent.source.model_copy(update={"id": HOSTILE})})
            },
        }
    )
    found.program = changed
    item = {"line": 1, "text": HOSTILE, "because": HOSTILE, "reachable": HOSTILE}
    found.results["dream"] = SearchResult.model_validate(
        {"search": "dream", "status": "infeasible", "conflict": [item]}
    )
    found.unreadable.append(HOSTILE)
    models = found.evaluations["all"].models
    odd = models[0].model_copy(
        update={"figures": {**models[0].figures, HOSTILE: models[0].figures["hellaswag"]}}
    )
    found.evaluations["all"] = found.evaluations["all"].model_copy(update={"models": (odd, *models[1:])})
    html = render(found, HOSTILE)
    page = Page(html)
    assert "<img" not in html
    assert html.count("<script>") == 1
    assert "1337" not in html
    shown = "".join(page.text)
    assert shown.count(HOSTILE) >= 6


PARTS = ("costs", "scores", "search", "solutions", "evals", "library")


@pytest.mark.parametrize(
    "absent", [c for n in (1, 2, 5, 6) for c in itertools.combinations(PARTS, n)], ids="-".join
)
def test_whatever_is_missing_is_left_out(built: Any, tmp_path: Path, absent: tuple[str, ...]) -> None:
    build = BuildDir(tmp_path)
    for part in PARTS:
        if part not in absent:
            (tmp_path / part).symlink_to(built.build.root / part)
    page = Page(write_report(built.program, build, built.source).read_text(encoding="utf-8"))
    headings = {c for t in page.tables for c in t[0]}
    assert ("Initialised" in headings) == ("library" not in absent)
    assert ("final" in headings) == ("evals" not in absent)
    assert ("Layer" in headings) == ("solutions" not in absent)
    assert not any("nan" in t for t in page.text)


def test_an_unmeasured_speed_is_called_predicted(built: Any, tmp_path: Path) -> None:
    for part in ("costs", "solutions"):
        (tmp_path / part).symlink_to(built.build.root / part)
    page = Page(write_report(built.program, BuildDir(tmp_path), "").read_text(encoding="utf-8"))
    assert "faster, predicted" in page.text
    assert "faster, measured" not in page.text


def test_damaged_files_are_named(copied: Callable[..., Any]) -> None:
    mine = copied()
    mine.build.scores("kl").write_text("{")
    mine.build.solution("greedy").write_bytes(b"\xff")
    with (mine.build.library / "index.jsonl").open("a") as index:
        index.write('{"torn')
    page = Page(write_report(mine.program, mine.build, mine.source).read_text(encoding="utf-8"))
    assert {"scores/kl.json", "solutions/greedy.json"} <= set(page.text)
    assert "library/index.jsonl" not in page.text  # a torn last line is no damage


def test_a_solution_of_another_space_is_not_shown(built: Any) -> None:
    found = load_artefacts(built.program, built.build)
    best = built.results["fast"].solutions[0]
    other = best.model_copy(
        update={"layers": (LayerAssignment(attention="gqa2", ffn="parent"), *best.layers[1:])}
    )
    found.results["fast"] = built.results["fast"].model_copy(update={"solutions": (other,)})
    page = Page(render(found, ""))
    assert any("another version of its space" in t for t in page.text)
    assert not any(t and t[0] and t[0][0] == "Layer" for t in page.tables)


def test_a_program_of_a_parent_only_has_a_page(tmp_path: Path) -> None:
    program = Program(source="empty.pzl")
    html = write_report(program, BuildDir(tmp_path), "parent p = hf(\n").read_text(encoding="utf-8")
    assert "empty.pzl" in "".join(Page(html).text)


def test_the_same_build_gives_the_same_page(built: Any, tmp_path: Path) -> None:
    shutil.copytree(built.build.root, tmp_path / "copy")
    again = write_report(built.program, BuildDir(tmp_path / "copy"), built.source)
    first = write_report(built.program, built.build, built.source)
    assert again.read_bytes() == first.read_bytes()
