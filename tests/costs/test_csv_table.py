"""Costs in a CSV of the user's: what its rows and columns mean, what is said of a bad one, and what is written reads back."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
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
from tests.goldens import assert_text, refusal

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


BAD: list[tuple[str, str]] = [
    ("layer,", "index,"), ("latency", "latncy"), ("[us]", "[GiB]"), ("latency[us]", "latency"), ("chat.", "rag."),
    ("chat.memory[bytes]", "chat.latency[ms]"), ("12\n", "twelve\n"), (",12\n", ",-12\n"), (",12\n", ",nan\n"),
    ("800,12", "800"), ("800,12", "800,"), ("1,gqa1", "2,gqa1"), ("1,gqa1", "1.5,gqa1"), ("mlp32", "mpl32"),
    (",gqa1,,,400,6.5\n", ""), ("attention,", "atention,"), ("params,", ","), (",,mlp32,,800,12", ",,mlp32,,1,1\n,,mlp32,,1,1"),
    (",,mlp32,,800,12", '"","",mlp32,,"800",twelve'), ("800,12\n", '800,12\n"open'), ("800,12\n", "800,12\n0-1,noop,noop,,7,\n"),
]  # fmt: skip
"""What is wrong in place of what is right."""


def test_a_bad_table_is_refused_as_the_golden_says(read: Read, tmp_path: Path) -> None:
    """In a file of other bytes, of another format or of other batches, too; a pair that is lacking with its layers."""
    asked = [partial(read, SUB_BLOCKS.replace(right, wrong)) for right, wrong in BAD]
    asked += [partial(read, text) for text in ("", b"\xff\xfe\x00")]
    asked += [partial(read, SUB_BLOCKS, batches) for batches in ((4, 8), ())]
    asked += [
        partial(cost_table, reading((4,), "no.csv"), "wide", tmp_path),
        partial(read, b"PAR1", (4,), "costs.parquet"),
        *(partial(lacking, tmp_path, layers) for layers in ((2,), (2, 3), range(0, 20, 2))),
    ]
    assert_text(Path(__file__).with_name("bad_tables.txt"), "\n".join(map(refusal, asked)))


def lacking(folder: Path, layers: Sequence[int]) -> CostTable:
    """A table of pairs, one of which some layers lack."""
    shape = SMALL.model_copy(update={"layers": 20})
    rows = [f"{i},{a},{f},1,1" for i in range(20) for a, f in PAIRS if i not in layers or (a, f) != PAIRS[4]]
    header = "layer,attention,ffn,chat.memory[bytes],chat.latency[us]"
    (folder / "costs.csv").write_text("\n".join([header, ",,,1,1", *rows]))
    whole = program(shape, (CHOICE,) * 20, chat=(TableHardware(path="costs.csv"), (4,), 8, 16))
    return cost_table(whole, "wide", folder)


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


def test_rows_of_runs_have_scores_and_no_costs(read: Read) -> None:
    assert read(SUB_BLOCKS + "0-1,noop,noop,,,\n") == read(SUB_BLOCKS)
    with pytest.raises(DiagnosticError, match="a run of layers has a score and no costs: `7` is one"):
        read(SUB_BLOCKS + "0-1,noop,noop,,7,\n")


@pytest.mark.parametrize(("batches", "said"), [((4, 8), "`4 | 8`"), ((), "`auto`")])
def test_a_table_without_batches_is_of_one(read: Read, batches: tuple[int, ...], said: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        read(SUB_BLOCKS, batches)
    [told] = caught.value.diagnostics
    assert said in told.message
    assert told.help == "one batch a scenario, or a `batch` column with rows for each"
