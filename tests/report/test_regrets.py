"""The heat map says what the artefact says, and nothing where that is of another solution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from puzzledsl.base.files import write_text
from puzzledsl.ir.nodes import Program
from puzzledsl.ir.tables import Margin, Move, Regret, SearchResult, SubBlockRegrets, WhyResult
from puzzledsl.report.artefacts import Artefacts, load_artefacts
from puzzledsl.report.sections.regrets import regrets
from puzzledsl.report.subject import Subject
from puzzledsl.report.write import render
from tests.report.conftest import Built


def why_of(program: Program, result: SearchResult) -> WhyResult:
    """Regrets that grow from layer to layer; the last alternative of a sub-block cannot be met."""
    assert result.objective is not None
    sub_blocks = []
    for layer, (choice, names) in enumerate(
        zip(program.spaces["wide"].layers, result.solutions[0].layers, strict=True)
    ):
        for sub_block in ("attention", "ffn"):
            chosen = getattr(names, sub_block)
            listed = []
            for place, alternative in enumerate(getattr(choice, sub_block)):
                name = alternative.name
                value = 0.0 if name == chosen else 0.01 * layer * place
                last = name != chosen and place == len(getattr(choice, sub_block)) - 1
                listed.append(
                    Regret(
                        alternative=name, at_least=None if last else value, at_most=None if last else value
                    )
                )
            sub_blocks.append(
                SubBlockRegrets.model_validate(
                    {"layer": layer, "sub_block": sub_block, "chosen": chosen, "regrets": tuple(listed)}
                )
            )
    moves = (
        Move(kind="tighter", by="1 %", bound=1.515, at_least=0.0213, at_most=0.0213),
        Move(kind="looser", by="1 %", bound=1.485, at_least=-0.017, at_most=-0.017),
        Move(kind="without", at_least=-0.4, at_most=-0.4),
    )
    impossible = (Move(kind="tighter", by="1", bound=11, at_least=None, at_most=None),)
    return WhyResult(
        search="fast",
        sense="minimize",
        objective=result.objective,
        proven=True,
        negligible=result.objective / 1000,
        sub_blocks=tuple(sub_blocks),
        margins=(
            Margin(line=22, text="chat.throughput >= 1.5x", because="the reason", moves=moves),
            Margin(line=26, text="count(attention is noop) <= 12", moves=impossible),
        ),
    )


@pytest.fixture
def own(copied: Callable[..., Built]) -> Built:
    """A build with regrets, to be broken."""
    own = copied()
    write_text(own.build.why("fast"), why_of(own.program, own.results["fast"]).canonical_json())
    return own


@pytest.fixture
def found(own: Built) -> Artefacts:
    """The parts that a report reads."""
    return load_artefacts(own.program, own.build)


def test_the_page_has_a_cell_for_every_alternative_of_every_layer(found: Artefacts) -> None:
    page = render(found, "")
    section = page.split('<section id="why">')[1].split("</section>")[0]
    every = sum(len(s.regrets) for s in found.whys["fast"].sub_blocks)
    assert section.count('data-tip="layer ') == every
    assert section.count("is chosen") == 2 * 2 * 30  # title and tip, two sub-blocks, 30 layers
    assert '<a href="#why">' in page


def test_margins_are_numbers_or_words(found: Artefacts) -> None:
    page = render(found, "")
    assert '<data value="0.0213">+0.0213</data> <small>by 1 %</small>' in page
    assert '<data value="-0.4">−0.4</data>' in page and "<td>cannot be met</td>" in page


def test_a_stronger_cell_costs_more(found: Artefacts) -> None:
    section = regrets(Subject(found, "fast"))
    assert section is not None
    why = found.whys["fast"]
    values: dict[tuple[int, str, str], float | None] = {
        (s.layer, s.sub_block, r.alternative): r.at_most for s in why.sub_blocks for r in s.regrets
    }
    cells = [
        (values[layer, sub_block, row.name], cell.strength)
        for (_, rows), sub_block in zip(section.groups, ("attention", "ffn"), strict=True)
        for row in rows
        for layer, cell in enumerate(row.cells)
        if cell.kind == "costs"
    ]
    assert len(cells) > 100
    ordered = sorted(cells)
    assert [strength for _, strength in ordered] == sorted(strength for _, strength in cells)
    assert 0 < ordered[0][1] < ordered[-1][1] == 1


def test_regrets_of_another_solution_or_space_are_left_out(found: Artefacts) -> None:
    why, result = found.whys["fast"], found.results["fast"]
    other = replace(found, whys={"fast": why.model_copy(update={"objective": 2 * why.objective})})
    assert regrets(Subject(other, "fast")) is None
    other = replace(found, whys={"fast": why.model_copy(update={"sub_blocks": why.sub_blocks[1:]})})
    assert regrets(Subject(other, "fast")) is None
    assert regrets(Subject(replace(found, whys={}), "fast")) is None
    assert result.solutions and 'id="why"' not in render(replace(found, whys={}), "")


def test_a_damaged_file_is_named(own: Built) -> None:
    own.build.why("fast").write_text("{")
    assert "why/fast.json" in load_artefacts(own.program, own.build).unreadable
