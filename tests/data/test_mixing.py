"""A mix of texts: its proportions, its order, and what it says when a part is too short."""

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.data.counts import most_blocks, turns
from puzzledsl.data.documents import documents, files_of
from puzzledsl.ir import nodes
from puzzledsl.pipeline.context import data_fingerprint
from tests.blocks import token_blocks
from tests.data.chats import WHERE, failure, text
from tests.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
WEIGHTS = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(WEIGHTS, st.integers(0, 200))
def test_every_prefix_has_the_proportions(weights: list[int], count: int) -> None:
    found = turns(weights, count)
    for length in range(count + 1):
        for part, weight in enumerate(weights):
            share = Fraction(weight, sum(weights)) * length
            assert abs(found[:length].count(part) - share) <= 1 + Fraction(len(weights), 2)


@given(WEIGHTS, st.integers(1, 40))
def test_whole_rounds_are_exact(weights: list[int], rounds: int) -> None:
    found = turns(weights, rounds * sum(weights))
    assert [found.count(part) for part in range(len(weights))] == [rounds * weight for weight in weights]


@given(st.data(), WEIGHTS)
def test_most_blocks_is_where_a_part_runs_out(data: st.DataObject, weights: list[int]) -> None:
    available = [data.draw(st.integers(0, 20)) for _ in weights]
    most = most_blocks(weights, available, 1000)
    order = turns(weights, most + 1)
    assert all(order[:most].count(part) <= count for part, count in enumerate(available))
    assert any(order.count(part) > count for part, count in enumerate(available))


def mix(**weights: int) -> nodes.Data:
    parts = tuple(
        nodes.MixPart(name=name, weight=weight, source=nodes.TextData(paths=(f"{name}.txt",)))
        for name, weight in weights.items()
    )
    return nodes.Data(name="mixed", source=nodes.MixData(parts=parts), where=WHERE)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name, length in (("corpus", 400), ("stories", 40)):
        (tmp_path / f"{name}.txt").write_text("\n\n".join(f"{name} {i}" for i in range(length)))
    return tmp_path


def blocks(data: nodes.Data, base: Path, count: int, cache: Path | None = None) -> list[list[int]]:
    found = token_blocks(data, base, TOKENIZER, context=8, tokens=8 * count, seed=3, cache=cache)
    assert found.dtype == torch.int64
    return found.tolist()


def test_the_part_that_is_too_short_is_named(base: Path) -> None:
    problem = failure(mix(corpus=1, stories=1), base, context=8, tokens=8 * 200)
    assert problem.code == "E1208" and "`mixed` draws 800 tokens from `stories`" in problem.message
    most = int(problem.help.split("at most ")[1].split(" ")[0])
    assert len(blocks(mix(corpus=1, stories=1), base, most // 8)) == most // 8
    with pytest.raises(DiagnosticError):
        blocks(mix(corpus=1, stories=1), base, most // 8 + 1)


def test_files_documents_and_fingerprint_are_those_of_the_parts(base: Path) -> None:
    data = mix(corpus=2, stories=1)
    assert [path.name for path in files_of(data, base)] == ["corpus.txt", "stories.txt"]
    assert len(list(documents(data, base))) == 440
    before = data_fingerprint(data, base)
    assert before != data_fingerprint(mix(corpus=1, stories=1), base)
    assert before != data_fingerprint(text("corpus.txt"), base)
    (base / "stories.txt").write_text("another story")
    assert before != data_fingerprint(data, base)
