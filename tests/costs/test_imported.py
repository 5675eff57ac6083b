from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.costs.breakdown import as_text, breakdown
from puzzledsl.costs.metrics import metrics_of
from puzzledsl.costs.table import cost_table
from puzzledsl.ir.nodes import LayerChoice, Program, Shape, TableHardware
from puzzledsl.ir.tables import LayerAssignment

Build = Callable[..., Program]
Read = Callable[..., Program]
CHOICE = LayerChoice(
    attention=(ParentAttention(), GqaAttention(kv_heads=1)), ffn=(ParentFfn(), MlpFfn(width=32), NoOpFfn())
)
SUB_BLOCKS = """\
layer,attention,ffn,params,chat.memory[bytes],chat.latency[us]
,,,6464,13000,5
,parent,,,1000,10
,gqa1,,,400,6.5
1,gqa1,,,300,6.25
,,parent,,2000,20
,,mlp32,,800,12
"""


def child(*pairs: str) -> list[LayerAssignment]:
    return [LayerAssignment(attention=p.split("/")[0], ffn=p.split("/")[1]) for p in pairs]


@pytest.fixture
def read(tmp_path: Path, small: Shape, program: Build) -> Callable[..., Program]:
    """A program whose scenario `chat` reads this text (or these bytes) as `costs.csv`."""

    def build(text: str | bytes, batches: tuple[int, ...] = (4,), name: str = "costs.csv") -> Program:
        (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return program(small, (CHOICE,) * 2, chat=(TableHardware(path=name), batches, 8, 16))

    return build


def test_sub_block_rows_add_up(read: Read, tmp_path: Path) -> None:
    table = cost_table(read(SUB_BLOCKS), "wide", tmp_path)
    (costs,) = table.scenarios["chat"]
    assert table.provenance == {"chat": "table costs.csv"}
    m = metrics_of(costs, child("gqa1/mlp32", "gqa1/noop"))
    assert m["memory"] == 13000 + 400 + 800 + 300
    assert m["latency"] == Fraction("5") / 10**6 + Fraction("24.75") / 10**6
    assert m["throughput"] == 4 * 16 / m["latency"]


def test_rows_of_runs_have_scores_and_no_costs(read: Read, tmp_path: Path) -> None:
    plain = cost_table(read(SUB_BLOCKS), "wide", tmp_path)
    assert cost_table(read(SUB_BLOCKS + "0-1,noop,noop,,,\n"), "wide", tmp_path) == plain
    with pytest.raises(DiagnosticError, match="a run of layers has a score and no costs: `7` is one"):
        cost_table(read(SUB_BLOCKS + "0-1,noop,noop,,7,\n"), "wide", tmp_path)


def test_pair_rows_are_whole_layers_and_may_interact(read: Read, tmp_path: Path) -> None:
    pairs = "".join(
        f"{layer},{a},{f},,{i * 10 + layer},{7 * i * i}\n"
        for layer in (0, 1)
        for i, (a, f) in enumerate((a, f) for a in ("parent", "gqa1") for f in ("parent", "mlp32", "noop"))
    )
    header = "layer,attention,ffn,params,chat.memory[KiB],chat.latency[ms]\n"
    (costs,) = cost_table(read(header + pairs), "wide", tmp_path).scenarios["chat"]
    m = metrics_of(costs, child("parent/parent", "gqa1/mlp32"))
    assert m["memory"] == 1024 * (0 + 41)
    assert m["latency"] == Fraction(7 * 16, 1000)


def test_prefill_and_decode_are_kept_apart_where_the_table_does(read: Read, tmp_path: Path) -> None:
    text = "layer,attention,ffn,chat.weights[MiB],chat.kv_cache[MiB],chat.ttft[ms],chat.tpot[ns]\n"
    text += ",parent,,3,1,2,5000\n,gqa1,,2,0.25,1.5,4000\n,,parent,1,0,1,1\n,,mlp32,1,0,1,1\n"
    (costs,) = cost_table(read(text), "wide", tmp_path).scenarios["chat"]
    m = metrics_of(costs, child("parent/noop", "gqa1/noop"))
    assert (m["weights"], m["kv_cache"]) == (5 * 2**20, 1.25 * 2**20)
    assert (m["ttft"], m["tpot"]) == (Fraction(35, 10000), Fraction(9000, 10**9))
    assert m["latency"] == m["ttft"] + 16 * m["tpot"]


def test_batches_have_rows_of_their_own(read: Read, tmp_path: Path) -> None:
    text = "layer,attention,ffn,batch,chat.memory[bytes],chat.latency[us]\n" + "".join(
        f",{a},{f},{b},{b},{b + 1}\n"
        for b in (1, 4)
        for a, f in (("parent", ""), ("gqa1", ""), ("", "parent"), ("", "mlp32"))
    )
    for batches in ((), (4, 1)):
        found = cost_table(read(text, batches), "wide", tmp_path).scenarios["chat"]
        assert [c.batch for c in found] == [1, 4]
        assert metrics_of(found[1], child("gqa1/noop", "gqa1/noop"))["memory"] == 8
    with pytest.raises(DiagnosticError, match=r"no rows for scenario `chat` at batch 2"):
        cost_table(read(text, (2,)), "wide", tmp_path)


BAD = {
    "empty": ("", "it is empty"),
    "not text": (b"\xff\xfe\x00", "not UTF-8"),
    "no layer column": (SUB_BLOCKS.replace("layer,", "index,", 1), "no `layer` column"),
    "misspelt metric": (SUB_BLOCKS.replace("latency", "latncy"), "did you mean `latency`"),
    "wrong dimension": (SUB_BLOCKS.replace("[us]", "[GiB]"), "`GiB` does not measure Time"),
    "unknown unit": (SUB_BLOCKS.replace("[us]", "[parsec]"), "`parsec` does not measure Time"),
    "no unit": (
        SUB_BLOCKS.replace("chat.latency[us]", "chat.latency"),
        r"`chat.latency` is no `SCENARIO.METRIC\[UNIT\]`",
    ),
    "twice": (SUB_BLOCKS.replace("chat.memory[bytes]", "chat.latency[ms]"), "is there twice"),
    "other scenario": (
        SUB_BLOCKS.replace("chat.", "rag."),
        "gives neither sizes nor times of scenario `chat`",
    ),
    "not a number": (SUB_BLOCKS.replace("12\n", "twelve\n"), "line 7: `twelve`"),
    "negative": (SUB_BLOCKS.replace(",12\n", ",-12\n"), "line 7: `-12`"),
    "nan": (SUB_BLOCKS.replace(",12\n", ",nan\n"), "line 7: `nan`"),
    "ragged": (SUB_BLOCKS.replace("800,12", "800"), "line 7: 5 cells under 6 columns"),
    "layer out of range": (SUB_BLOCKS.replace("1,gqa1", "2,gqa1"), "line 5: layer 2 is out of range"),
    "half a layer": (SUB_BLOCKS.replace("1,gqa1", "1.5,gqa1"), "line 5: `1.5` in column `layer`"),
    "empty cell": (SUB_BLOCKS.replace("800,12", "800,"), "line 7: `chat.latency` is empty"),
    "same row twice": (SUB_BLOCKS + ",,mlp32,,1,1\n", "line 8: this is line 7 again"),
    "misspelt name": (SUB_BLOCKS.replace("mlp32", "mpl32"), "no cost of ffn `mlp32`.*in layers 0..1"),
    "one layer missing": (SUB_BLOCKS.replace(",gqa1,,,400,6.5\n", ""), "attention `gqa1`.*in layer 0"),
    "half of a key": (
        SUB_BLOCKS.replace("attention,", "atention,", 1),
        "column `atention` is not understood; did you mean `attention`",
    ),
    "a nameless column": (SUB_BLOCKS.replace("params,", ",", 1), "column `` is not understood$"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_table_is_a_diagnostic(read: Read, tmp_path: Path, name: str) -> None:
    text, message = BAD[name]
    with pytest.raises(DiagnosticError, match=message) as caught:
        cost_table(read(text), "wide", tmp_path)
    assert {d.code for d in caught.value.diagnostics} <= {f"E10{i}" for i in range(11, 18)}
    assert all(d.span is not None and d.span.file in ("t.pzl", "costs.csv") for d in caught.value.diagnostics)


def test_a_missing_file_is_a_diagnostic(small: Shape, program: Build, tmp_path: Path) -> None:
    absent = program(small, (CHOICE,) * 2, chat=(TableHardware(path="no.csv"), (4,), 8, 16))
    with pytest.raises(DiagnosticError, match=r"cannot read the cost table `no.csv`"):
        cost_table(absent, "wide", tmp_path)


def test_sizes_without_times_are_costs_that_leave_the_times_open(read: Read, tmp_path: Path) -> None:
    (costs,) = cost_table(
        read(SUB_BLOCKS.replace("chat.latency", "rag.latency")), "wide", tmp_path
    ).scenarios["chat"]
    assert costs.unknown == ("weights", "kv_cache", "latency", "ttft", "tpot", "throughput")
    assert metrics_of(costs, child("gqa1/mlp32", "gqa1/noop"))["memory"] == 13000 + 400 + 800 + 300


@pytest.mark.parametrize(
    ("columns", "unknown"),
    [
        (("memory", "latency"), ("weights", "kv_cache", "ttft", "tpot")),
        (("memory", "weights"), ("latency", "ttft", "tpot", "throughput")),
        (("memory", "kv_cache"), ("latency", "ttft", "tpot", "throughput")),
        (("weights", "kv_cache"), ("latency", "ttft", "tpot", "throughput")),
        (("weights", "latency"), ("memory", "weights", "kv_cache", "ttft", "tpot")),
        (("ttft", "tpot"), ("memory", "weights", "kv_cache")),
    ],
)
def test_what_a_total_is_made_of_is_open_where_only_the_total_is_given(
    read: Read, tmp_path: Path, columns: tuple[str, str], unknown: tuple[str, ...]
) -> None:
    text = SUB_BLOCKS
    for old, new in zip(("chat.memory[bytes]", "chat.latency[us]"), columns, strict=True):
        text = text.replace(old, f"chat.{new}[{'us' if new in ('latency', 'ttft', 'tpot') else 'bytes'}]")
    (costs,) = cost_table(read(text), "wide", tmp_path).scenarios["chat"]
    assert costs.unknown == unknown


def test_what_a_table_leaves_open_is_not_shown(read: Read, tmp_path: Path) -> None:
    program = read(SUB_BLOCKS.replace("chat.latency", "rag.latency"))
    table = cost_table(program, "wide", tmp_path)
    found = breakdown(
        program, program.spaces["wide"], table, "chat", child("gqa1/mlp32", "gqa1/noop"), "a child"
    )
    text = as_text(found)
    assert "not known: weights, kv_cache, latency, ttft, tpot, throughput" in text
    assert "prefill" not in text and "time goes to" not in text and "0 tok/s" not in text
    metrics = found.as_json()["metrics"]
    assert isinstance(metrics, dict) and set(metrics) == {"memory", "flops", "batch"}


def test_weights_and_memory_leave_the_cache_as_the_rest(read: Read, tmp_path: Path) -> None:
    text = SUB_BLOCKS.replace("chat.latency[us]", "chat.weights[bytes]").replace("2000,20", "2000,2500")
    (costs,) = cost_table(read(text), "wide", tmp_path).scenarios["chat"]
    [wide, narrow] = (costs.ffn[0][name] for name in ("parent", "mlp32"))
    assert (narrow.weights_bytes, narrow.kv_cache_bytes) == (12, 788)
    assert (wide.weights_bytes, wide.kv_cache_bytes) == (2500, 0)  # a rest below nothing is nothing


@pytest.mark.parametrize(("batches", "said"), [((4, 8), "`4 | 8`"), ((), "`auto`")])
def test_a_table_without_batches_is_of_one(
    read: Read, tmp_path: Path, batches: tuple[int, ...], said: str
) -> None:
    with pytest.raises(DiagnosticError) as caught:
        cost_table(read(SUB_BLOCKS, batches), "wide", tmp_path)
    [told] = caught.value.diagnostics
    assert said in told.message
    assert told.help == "one batch a scenario, or a `batch` column with rows for each"


@pytest.mark.parametrize(
    ("layers", "named"),
    [
        ((2,), "layer 2"),
        ((2, 3), "layers 2..3"),
        (tuple(range(0, 20, 2)), "layers 0..18 by 2"),
    ],
)
def test_a_pair_that_is_lacking_is_named_with_its_layers(
    tmp_path: Path, small: Shape, program: Build, layers: tuple[int, ...], named: str
) -> None:
    shape = small.model_copy(update={"layers": 20})
    pairs = [(a, f) for a in ("parent", "gqa1") for f in ("parent", "mlp32", "noop")]
    rows = [
        f"{i},{a},{f},1,1"
        for i in range(20)
        for a, f in pairs
        if i not in layers or (a, f) != ("gqa1", "mlp32")
    ]
    (tmp_path / "costs.csv").write_text(
        "\n".join(["layer,attention,ffn,chat.memory[bytes],chat.latency[us]", ",,,1,1", *rows])
    )
    whole = program(shape, (CHOICE,) * 20, chat=(TableHardware(path="costs.csv"), (4,), 8, 16))
    with pytest.raises(DiagnosticError) as caught:
        cost_table(whole, "wide", tmp_path)
    [told] = caught.value.diagnostics
    assert "attention `gqa1` with ffn `mlp32`" in told.message and named in told.message


def test_a_mistake_in_a_quoted_row_is_shown_with_the_whole_row(read: Read, tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError) as caught:
        cost_table(read(SUB_BLOCKS.replace(",,mlp32,,800,12", '"","",mlp32,,"800",twelve')), "wide", tmp_path)
    told = next(d for d in caught.value.diagnostics if "`twelve`" in d.message)
    assert told.span is not None
    assert (told.span.line, told.span.column, told.span.end_column) == (
        7,
        1,
        1 + len('"","",mlp32,,"800",twelve'),
    )


def test_text_that_is_no_csv_is_said_to_be_none(read: Read, tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError, match=r"unexpected end of data"):
        cost_table(read(SUB_BLOCKS + '"open'), "wide", tmp_path)


def test_parquet_is_told(read: Read, tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError, match="it is Parquet"):
        cost_table(read(b"PAR1", name="costs.parquet"), "wide", tmp_path)
