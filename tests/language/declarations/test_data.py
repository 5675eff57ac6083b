"""Text: sources and mixes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from puzzledsl.ir import nodes
from tests.language.rules import PIECES, codes, program, refused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *refused("data.only", ('data d = text("d")\ndata e = text("e")\nbld b of w { tokens = 0 }', "E0209")),
        *refused(
            "data.mix",
            ("data d = mix()", "E0209"),
            ('data a = text("a")\ndata d = mix(a: 0)', "E0304"),
            ('data a = text("a")\ndata d = mix(a: -1)', "E0304"),
            ('data a = text("a")\ndata d = mix(a: 1tok)', "E0303"),
            ('data a = text("a")\ndata d = mix(a: 1, a: 2)', "E0208"),
            ('data a = text("a")\ndata d = mix(b: 1)', "E0201"),
            ("data d = mix(chat: 1)", "E0202"),
            ('data a = text("a")\ndata d = mix(a: 1, d: 1)', "E0214"),
        ),
        *refused(
            "data.mix",
            ('data d = 0.5 * text("a") + 0.5 * text("b")', "E0303"),
            ('data a = text("a")\ndata b = text("b")\ndata d = 0.7 * a + 0.3 * b', "E0303"),
        ),
        *refused("data.messages", ('data d = jsonl("a", messages: m, column: c)', "E0215"), ('data d = text("a", messages: m)', "E0204")),
        *refused("data.loss", ('data d = jsonl("a", loss: answers)', "E0215"), ('data d = jsonl("a", messages: m, loss: prompts)', "E0305")),
        *refused(
            "data.part",
            ('data d = text("a", part: 5%)', "E0303"),
            ('data d = text("a", part: 50%..50%)', "E0304"),
            ('data d = text("a", part: 50%..150%)', "E0304"),
            ('data d = text("a", part: 1s..2s)', "E0303"),
        ),
        *refused("data.take", ('data d = text("a", take: 0)', "E0304"), ('data d = text("a", take: 1.5)', "E0304")),
        *refused("data.duplicates", ('data d = text("a", duplicates: no)', "E0305")),
    ],
)  # fmt: skip
def test_it_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert codes(tmp_path, text) == expected


def source(tmp_path: Path, text: str) -> object:
    return program(tmp_path, f"data d = {text}").data["d"].source


@pytest.mark.states("data.text", "data.jsonl", "data.parquet", "data.hf", "data.only")
def test_data(tmp_path: Path) -> None:
    def found(text: str) -> object:
        return source(tmp_path, text)

    assert found('text("a/*.txt", "b.txt")') == nodes.TextData(paths=("a/*.txt", "b.txt"))
    assert found('jsonl("f.jsonl", column: body)') == nodes.JsonlData(paths=("f.jsonl",), column="body")
    assert found('jsonl("f.jsonl")') == nodes.JsonlData(paths=("f.jsonl",), column="text")
    assert found('parquet("f.parquet", "g", column: body)') == nodes.ParquetData(
        paths=("f.parquet", "g"), column="body"
    )
    assert found('hf("n", split: test, column: "x y")') == nodes.HfData(id="n", split="test", column="x y")
    assert found('hf("n")') == nodes.HfData(id="n", split="train", column="text")
    assert found('hf("n", subset: en, revision: "v1")') == nodes.HfData(id="n", subset="en", revision="v1")
    assert program(tmp_path, PIECES).blds["b"].data == "d"


@pytest.mark.states("data.messages", "data.loss", "data.part", "data.duplicates", "data.take")
def test_what_is_read_of_a_source(tmp_path: Path) -> None:
    def found(text: str) -> object:
        return source(tmp_path, text)

    chat = {"paths": ("c",), "messages": "chat"}
    assert found('jsonl("c", messages: chat)') == nodes.JsonlData(**chat)
    assert found('jsonl("c", messages: chat, loss: all)') == nodes.JsonlData(**chat)
    assert found('parquet("c", messages: chat, loss: answers)') == nodes.ParquetData(**chat, loss="answers")
    assert found('hf("n", messages: chat)') == nodes.HfData(id="n", messages="chat")
    half = (Fraction(0), Fraction(1, 2))
    assert found('text("a", part: 0%..50%)') == nodes.TextData(paths=("a",), part=half)
    assert found('text("a", part: 0..1/2)') == nodes.TextData(paths=("a",), part=half)
    assert found('text("a", duplicates: drop)') == nodes.TextData(paths=("a",), duplicates="drop")
    assert found('jsonl("a", take: 10M)') == nodes.JsonlData(paths=("a",), take=10_000_000)
    plain = program(tmp_path, 'data d = jsonl("a")').data["d"].source
    assert plain.model_dump() == {"kind": "jsonl", "paths": ("a",), "column": "text"}


@pytest.mark.states("data.mix", "data.mix-order")
def test_mixes(tmp_path: Path) -> None:
    texts = 'data a = text("a")\ndata b = jsonl("b")\nparam share: Ratio = 30%\n'

    def parts(text: str, **settings: str) -> list[tuple[str, int, str]]:
        source = program(tmp_path, f"{texts}data d = {text}", **settings).data["d"].source
        assert isinstance(source, nodes.MixData)
        return [(part.name, part.weight, part.source.kind) for part in source.parts]

    assert parts("mix(a: 2, b: 1)") == [("a", 2, "text"), ("b", 1, "jsonl")]
    assert parts("mix(b: 50%, a: 150%)") == [("b", 1, "jsonl"), ("a", 3, "text")]
    assert parts("mix(a: 1 - share, b: share)") == [("a", 7, "text"), ("b", 3, "jsonl")]
    assert parts("mix(a: 1 - share, b: share)", share="0") == [("a", 1, "text")]
    assert parts("mix(a, b)") == [("a", 1, "text"), ("b", 1, "jsonl")]
    assert parts("mix(m: 1, a: 1)\ndata m = mix(a: 2, b: 1)") == [("a", 5, "text"), ("b", 1, "jsonl")]
    everywhere = (
        texts
        + "data d = mix(a: 1, b: 1)\nbld x of w { tokens = 0, data = d }\nscore y of x = replace_one(kl_divergence, data: d)\n"
        "search s of w { minimize y }\nuptrain u of s { tokens = 1k, data = d }\neval e of u { data = d }"
    )
    found = program(tmp_path, everywhere)
    assert {found.blds["x"].data, found.uptrains["u"].data, found.evals["e"].data} == {"d"}


def test_a_mix_of_another_file_brings_its_parts(tmp_path: Path) -> None:
    (tmp_path / "texts.pzl").write_text(
        'data a = text("a")\ndata b = text("b")\ndata d = mix(a: 1, b: 2)\ndata c = text("c")'
    )
    found = program(tmp_path, 'use "texts.pzl" (d)\nbld x of w { tokens = 0, data = d }')
    assert set(found.data) == {"a", "b", "d"}
