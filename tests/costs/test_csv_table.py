"""Costs in a CSV of the user's: what its rows and columns mean, what is said of a bad one, and what is written reads back."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.costs.breakdown import as_text, breakdown
from puzzledsl.costs.csv_table import csv_of
from puzzledsl.costs.metrics import metrics_of
from puzzledsl.costs.table import cost_table
from puzzledsl.ir import facts
from puzzledsl.ir.nodes import LayerChoice, Program, TableHardware
from puzzledsl.ir.tables import Cost, CostTable, LayerAssignment, ScenarioCosts
from tests.costs.cases import SMALL, program

Read = Callable[..., CostTable]
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
SIZES_ONLY = SUB_BLOCKS.replace("chat.latency", "rag.latency")
PAIRS = [(a, f) for a in ("parent", "gqa1") for f in ("parent", "mlp32", "noop")]


def child(*pairs: str) -> list[LayerAssignment]:
    return [LayerAssignment(attention=p.split("/")[0], ffn=p.split("/")[1]) for p in pairs]


CHILD = child("gqa1/mlp32", "gqa1/noop")


def reading(batches: tuple[int, ...] = (4,), name: str = "costs.csv") -> Program:
    return program(SMALL, (CHOICE,) * 2, chat=(TableHardware(path=name), batches, 8, 16))


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """The table of a program whose scenario `chat` reads this text (or these bytes) as `costs.csv`."""

    def build(text: str | bytes, *of: object) -> CostTable:
        made = reading(*of)  # type: ignore[arg-type]
        assert isinstance(made.hardware["chat"].spec, TableHardware)
        path = tmp_path / made.hardware["chat"].spec.path
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return cost_table(made, "wide", tmp_path)

    return build


def test_sub_block_rows_add_up(read: Read) -> None:
    table = read(SUB_BLOCKS)
    (costs,) = table.scenarios["chat"]
    assert table.provenance == {"chat": "table costs.csv"}
    m = metrics_of(costs, CHILD)
    assert m["memory"] == 13000 + 400 + 800 + 300
    assert m["latency"] == Fraction("5") / 10**6 + Fraction("24.75") / 10**6
    assert m["throughput"] == 4 * 16 / m["latency"]


def test_rows_of_runs_have_scores_and_no_costs(read: Read) -> None:
    assert read(SUB_BLOCKS + "0-1,noop,noop,,,\n") == read(SUB_BLOCKS)
    with pytest.raises(DiagnosticError, match="a run of layers has a score and no costs: `7` is one"):
        read(SUB_BLOCKS + "0-1,noop,noop,,7,\n")


def test_pair_rows_are_whole_layers_and_may_interact(read: Read) -> None:
    rows = [
        f"{layer},{a},{f},,{i * 10 + layer},{7 * i * i}\n"
        for layer in (0, 1)
        for i, (a, f) in enumerate(PAIRS)
    ]
    header = "layer,attention,ffn,params,chat.memory[KiB],chat.latency[ms]\n"
    m = metrics_of(read(header + "".join(rows)).scenarios["chat"][0], child("parent/parent", "gqa1/mlp32"))
    assert m["memory"] == 1024 * (0 + 41)
    assert m["latency"] == Fraction(7 * 16, 1000)


def test_prefill_and_decode_are_kept_apart_where_the_table_does(read: Read) -> None:
    text = "layer,attention,ffn,chat.weights[MiB],chat.kv_cache[MiB],chat.ttft[ms],chat.tpot[ns]\n"
    text += ",parent,,3,1,2,5000\n,gqa1,,2,0.25,1.5,4000\n,,parent,1,0,1,1\n,,mlp32,1,0,1,1\n"
    m = metrics_of(read(text).scenarios["chat"][0], child("parent/noop", "gqa1/noop"))
    assert (m["weights"], m["kv_cache"]) == (5 * 2**20, 1.25 * 2**20)
    assert (m["ttft"], m["tpot"]) == (Fraction(35, 10000), Fraction(9000, 10**9))
    assert m["latency"] == m["ttft"] + 16 * m["tpot"]


def test_batches_have_rows_of_their_own(read: Read) -> None:
    names = (("parent", ""), ("gqa1", ""), ("", "parent"), ("", "mlp32"))
    rows = [f",{a},{f},{b},{b},{b + 1}\n" for b in (1, 4) for a, f in names]
    text = "layer,attention,ffn,batch,chat.memory[bytes],chat.latency[us]\n" + "".join(rows)
    for batches in ((), (4, 1)):
        found = read(text, batches).scenarios["chat"]
        assert [c.batch for c in found] == [1, 4]
        assert metrics_of(found[1], child("gqa1/noop", "gqa1/noop"))["memory"] == 8
    with pytest.raises(DiagnosticError, match=r"no rows for scenario `chat` at batch 2"):
        read(text, (2,))


BAD = {
    "empty": ("", "it is empty"),
    "not text": (b"\xff\xfe\x00", "not UTF-8"),
    "no CSV": (SUB_BLOCKS + '"open', "unexpected end of data"),
    "no layer column": (SUB_BLOCKS.replace("layer,", "index,", 1), "no `layer` column"),
    "misspelt metric": (SUB_BLOCKS.replace("latency", "latncy"), "did you mean `latency`"),
    "wrong dimension": (SUB_BLOCKS.replace("[us]", "[GiB]"), "`GiB` does not measure Time"),
    "no unit": (
        SUB_BLOCKS.replace("latency[us]", "latency"),
        r"`chat.latency` is no `SCENARIO.METRIC\[UNIT\]`",
    ),
    "twice": (SUB_BLOCKS.replace("chat.memory[bytes]", "chat.latency[ms]"), "is there twice"),
    "other scenario": (SUB_BLOCKS.replace("chat.", "rag."), "neither sizes nor times of scenario `chat`"),
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
        "`atention` is not understood; did you mean",
    ),
    "a nameless column": (SUB_BLOCKS.replace("params,", ",", 1), "column `` is not understood$"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_table_is_a_diagnostic(read: Read, name: str) -> None:
    text, message = BAD[name]
    with pytest.raises(DiagnosticError, match=message) as caught:
        read(text)
    assert {d.code for d in caught.value.diagnostics} <= {f"E10{i}" for i in range(11, 18)}
    assert all(d.span is not None and d.span.file in ("t.pzl", "costs.csv") for d in caught.value.diagnostics)


def test_a_file_that_is_not_there_or_is_parquet_is_told(read: Read, tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError, match=r"cannot read the cost table `no.csv`"):
        cost_table(reading((4,), "no.csv"), "wide", tmp_path)
    with pytest.raises(DiagnosticError, match="it is Parquet"):
        read(b"PAR1", (4,), "costs.parquet")


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
    read: Read, columns: tuple[str, str], unknown: tuple[str, ...]
) -> None:
    text = SUB_BLOCKS
    for old, new in zip(("chat.memory[bytes]", "chat.latency[us]"), columns, strict=True):
        text = text.replace(old, f"chat.{new}[{'us' if new in ('latency', 'ttft', 'tpot') else 'bytes'}]")
    assert read(text).scenarios["chat"][0].unknown == unknown


def test_sizes_without_times_leave_the_times_open_and_unshown(read: Read) -> None:
    table, made = read(SIZES_ONLY), reading()
    (costs,) = table.scenarios["chat"]
    assert costs.unknown == ("weights", "kv_cache", "latency", "ttft", "tpot", "throughput")
    assert metrics_of(costs, CHILD)["memory"] == 13000 + 400 + 800 + 300
    found = breakdown(made, made.spaces["wide"], table, "chat", CHILD, "a child")
    text = as_text(found)
    assert "not known: weights, kv_cache, latency, ttft, tpot, throughput" in text
    assert "prefill" not in text and "time goes to" not in text and "0 tok/s" not in text
    assert set(found.as_json()["metrics"]) == {"memory", "flops", "batch"}  # type: ignore[call-overload]


def test_weights_and_memory_leave_the_cache_as_the_rest(read: Read) -> None:
    text = SUB_BLOCKS.replace("chat.latency[us]", "chat.weights[bytes]").replace("2000,20", "2000,2500")
    ffn = read(text).scenarios["chat"][0].ffn[0]
    assert (ffn["mlp32"].weights_bytes, ffn["mlp32"].kv_cache_bytes) == (12, 788)
    assert (ffn["parent"].weights_bytes, ffn["parent"].kv_cache_bytes) == (2500, 0)  # no rest is below 0


@pytest.mark.parametrize(("batches", "said"), [((4, 8), "`4 | 8`"), ((), "`auto`")])
def test_a_table_without_batches_is_of_one(read: Read, batches: tuple[int, ...], said: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        read(SUB_BLOCKS, batches)
    [told] = caught.value.diagnostics
    assert said in told.message
    assert told.help == "one batch a scenario, or a `batch` column with rows for each"


@pytest.mark.parametrize(
    ("layers", "named"), [((2,), "layer 2"), ((2, 3), "layers 2..3"), (range(0, 20, 2), "layers 0..18 by 2")]
)
def test_a_pair_that_is_lacking_is_named_with_its_layers(
    tmp_path: Path, layers: tuple[int, ...], named: str
) -> None:
    shape = SMALL.model_copy(update={"layers": 20})
    lacking = {(i, "gqa1", "mlp32") for i in layers}
    rows = [f"{i},{a},{f},1,1" for i in range(20) for a, f in PAIRS if (i, a, f) not in lacking]
    header = "layer,attention,ffn,chat.memory[bytes],chat.latency[us]"
    (tmp_path / "costs.csv").write_text("\n".join([header, ",,,1,1", *rows]))
    whole = program(shape, (CHOICE,) * 20, chat=(TableHardware(path="costs.csv"), (4,), 8, 16))
    with pytest.raises(DiagnosticError, match=f"attention `gqa1` with ffn `mlp32`.*{named}"):
        cost_table(whole, "wide", tmp_path)


def test_a_mistake_in_a_quoted_row_is_shown_with_the_whole_row(read: Read) -> None:
    row = '"","",mlp32,,"800",twelve'
    with pytest.raises(DiagnosticError) as caught:
        read(SUB_BLOCKS.replace(",,mlp32,,800,12", row))
    span = next(d for d in caught.value.diagnostics if "`twelve`" in d.message).span
    assert span is not None and (span.line, span.column, span.end_column) == (7, 1, 1 + len(row))


NARROW = LayerChoice(attention=(ParentAttention(),), ffn=(ParentFfn(), MlpFfn(width=32)))
SPACE = (CHOICE, NARROW, CHOICE)
FIGURES = ("weights_bytes", "kv_cache_bytes", "prefill_ns", "decode_ns")
SHAPE = SMALL.model_copy(update={"layers": 3})


@st.composite
def tables(draw: st.DrawFn) -> CostTable:
    """Two scenarios, one at two batches; costs the same in all layers, or each layer's own."""
    alike = draw(st.booleans())

    def cost(params: int) -> Cost:
        return Cost(params=params, **{name: draw(st.integers(0, 10**12)) for name in FIGURES})

    def scenario(name: str, batch: int) -> ScenarioCosts:
        known: dict[str, Cost] = {}
        parts: dict[str, list[dict[str, Cost]]] = {"attention": [], "ffn": []}
        for choice in SPACE:
            for part, layers in parts.items():
                layers.append({})
                for alternative in getattr(choice, part):
                    key = f"{part} {alternative.name}"
                    if not alike or key not in known:
                        known[key] = cost(alternative.params(SHAPE))
                    layers[-1][alternative.name] = known[key]
        sizes = {"scenario": name, "batch": batch, "prompt": 8, "output": 16}
        return ScenarioCosts(**sizes, fixed=cost(facts.fixed_params(SHAPE)), **parts)

    scenarios = {"chat": (scenario("chat", 1), scenario("chat", 4)), "rag": (scenario("rag", 2),)}
    empty = ({},) * 3
    return CostTable(
        space="wide", scenarios=scenarios, params_fixed=0, params_attention=empty, params_ffn=empty
    )


def figures(costs: ScenarioCosts, of: ScenarioCosts) -> list[int]:
    """The figures of the alternatives that `of` has."""
    each = [costs.fixed]
    for mine, named in ((costs.attention, of.attention), (costs.ffn, of.ffn)):
        each += [mine[layer][name] for layer, names in enumerate(named) for name in names]
    return [getattr(cost, figure) for cost in each for figure in FIGURES]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables())
def test_a_written_table_reads_back(tmp_path: Path, table: CostTable) -> None:
    (tmp_path / "costs.csv").write_text(csv_of(table), "utf-8")
    spec = TableHardware(path="costs.csv")
    read = cost_table(
        program(SHAPE, SPACE, chat=(spec, (1, 4), 8, 16), rag=(spec, (), 8, 16)), "wide", tmp_path
    )
    for name, candidates in table.scenarios.items():
        for wrote, found in zip(candidates, read.scenarios[name], strict=True):
            assert (found.batch, found.pairs) == (wrote.batch, ())
            assert figures(found, wrote) == figures(wrote, wrote)
