"""Parents, data, hardware, scenarios, pieces, scores, uptraining, evaluation and export."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from puzzledsl.costs.table import cost_table
from puzzledsl.ir import nodes
from puzzledsl.ir.evaluated import children_evaluated, children_in_full
from puzzledsl.ir.references import references, with_written
from tests.language.rules import codes, holds, outcome, program, refused

SHAPE = "layers: 2, hidden: 16, heads: 4, head_dim: 4, intermediate: 32, vocab: 64"
DATA = 'data d = text("d.txt")\n'
PIECES = DATA + "bld b of w { tokens = 1k }\n"
CARD = "hardware g { memory = 80GB, bandwidth = 2TB/s, link = 300GB/s, peak { bf16 = 300TFLOP/s } }\n"


@pytest.mark.parametrize(
    "text",
    [
        *holds("parent.hf", f'parent q = hf("org/name", revision: "main", shape: shape(family: llama, {SHAPE}))'),
        *holds("parent.verified", f'parent q = hf("not/there", shape: shape(family: llama, {SHAPE}))'),
        *holds("parent.facts", f"parent q = shape(family: llama, {SHAPE})\nassert q.layers == 2 and q.hidden == 16 and q.heads == 4"),
        *holds("parent.facts", 'assert p.kv_heads == 4 and p.head_dim == 8 and p.intermediate == 192 and p.vocab == 256\nassert p.family == "llama" and p.tied == false and p.params > 0'),
        *holds("hardware.fixed", "hardware g = h"),
        *holds("hardware.facts", CARD + "assert g.memory == 80GB and g.bandwidth == 2TB/s and g.link == 300GB/s and g.gpus == 1\nassert g.dtype == bf16 and g.kv_cache == bf16 and g.reserve < 80GB"),
        *holds("scenario.facts", "assert chat.prompt == 128 and chat.output == 64 and chat.batch == 4"),
        *holds("eval.tasks", DATA + 'search s of w { minimize kl }\neval e of s = tasks("a.jsonl", "b.jsonl") { items = 20, tokens = 4Ki, data = d }'),
        *holds("score.table", PIECES + 'score x of b = table("x.csv")'),
    ],
)  # fmt: skip
def test_it_checks(tmp_path: Path, text: str) -> None:
    program(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *refused("parent.config", ('parent q = hf("nowhere")', "E0405")),
        *refused("parent.families", (f"parent q = shape(family: gpt2, {SHAPE})", "E0305")),
        *refused("parent.shape-defaults", ("parent q = shape(family: llama, layers: 2)", "E0209")),
        *refused(
            "parent.impossible",
            (f"parent q = shape(family: llama, {SHAPE}, kv_heads: 3)", "E0408"),
            (f"parent q = shape(family: llama, {SHAPE.replace('head_dim: 4', 'head_dim: 3')})", "E0408"),
        ),
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
            "data.sum",
            ('data d = 0.5 * text("a") + 0.4 * text("b")', "E0304"),
            ('data d = 0.5 * text("a")', "E0304"),
            ('data d = 1.5 * text("a")', "E0304"),
            ('data d = text("a") + 0.5 * text("b")', "E0303"),
            ('data d = 0.5 * text("a") - 0.5 * text("b")', "E0303"),
            ('data d = 0.5 * p + 0.5 * text("b")', "E0303"),
            ('data d = 0.5 * tex("a") + 0.5 * text("b")', "E0305"),
            ("data d = 1 * d", "E0214"),
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
        *refused("hardware.literal", ("hardware g { memory = 80GB }", "E0209 E0209")),
        *refused("hardware.fixed", ("hardware g = h(gpus: 2)", "E0215"), ("hardware g of h { gpus = 2 }", "E0215")),
        *refused("hardware.peak", (CARD + "hardware f = g(dtype: fp8)", "E0410"), (CARD + "hardware f = g(head: fp8)", "E0410")),
        *refused("scenario.facts", ("scenario s on h = batch(1 | 2, 8 -> 8)\nassert s.batch == 1", "E0307")),
        *refused("scenario.batch-term", ("scenario s on h = batch(1 | 2, 8 -> 8)\nsearch x of w { minimize kl, require s.batch >= 2x }", "E0303")),
        *refused("bld.tokens", (DATA + "bld b of w { }", "E0209")),
        *refused("bld.train", (DATA + "bld b of w { tokens = 0, train = attention - ffn }", "E0303")),
        *refused("score.unit", (DATA + "bld b of w { tokens = 0, train = attention * ffn }\nscore x of b = replace_one(kl_divergence, unit: subblock)", "E0215")),
        *refused("score.pieces", ("score x of w = replace_one(kl_divergence)", "E0202")),
        *refused("score.replace-one", (PIECES + "score x of b = replace_one(perplexity)", "E0305")),
        *refused("uptrain.settings", (DATA + "search s of w { minimize kl }\nuptrain u of s { }", "E0209")),
        *refused("uptrain.memory", (DATA + "search s of w { minimize kl }\nuptrain u of s { tokens = 1, dtype = fp8, micro_batch = 0 }", "E0305 E0304")),
        *refused("uptrain.ema", (DATA + "search s of w { minimize kl }\nuptrain u of s { tokens = 1, ema = 2 }", "E0304")),
        *refused("uptrain.keep", (DATA + "search s of w { minimize kl }\nuptrain u of s { tokens = 1, keep = first }", "E0305")),
        *refused("uptrain.loss", (DATA + "search s of w { minimize kl }\nuptrain u of s { tokens = 1, loss = 1 * mse }", "E0305")),
        *refused("export.formats", ('search s of w { minimize kl }\nexport x of s = gguf("x", runtime: vllm)', "E0305")),
    ],
)  # fmt: skip
def test_it_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert codes(tmp_path, text) == expected


# ---------------------------------------------------------------- parents and data


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


@pytest.mark.states("data.sum", "data.mix-order")
def test_sums_of_shares(tmp_path: Path) -> None:
    """A source is named by its text in the program; brackets, `let`s and mixes are what they are made of."""
    texts = 'data a = text("a")\ndata b = jsonl("b")\nlet c = text("c")\nparam share: Ratio = 30%\n'

    def parts(text: str) -> list[tuple[str, int]]:
        found = program(tmp_path, f"{texts}data d = {text}").data["d"].source
        assert isinstance(found, nodes.MixData)
        return [(part.name, part.weight) for part in found.parts]

    assert parts("0.7 * a + 0.3 * b") == [("a", 7), ("b", 3)]
    assert parts("2/3 * a + b * (1/3)") == [("a", 2), ("b", 1)]
    assert parts("(1 - share) * a + share * b") == [("a", 7), ("b", 3)]
    assert parts('50% * text("x",  take: 5) + 0.5 * a') == [('text("x", take: 5)', 1), ("a", 1)]
    assert parts("0.5 * (0.5 * a + 0.5 * b) + 0.5 * mix(a: 2, b: 1)") == [("a", 7), ("b", 5)]
    assert parts('0.5 * text("x") + 0.25 * a + 0.25 * text("x")') == [('text("x")', 3), ("a", 1)]
    assert parts("0.5 * c + 0.5 * a")[1] == ("a", 1)
    called = program(tmp_path, 'data mix = text("x")\ndata d = 0.5 * mix + 0.5 * text("y")').data["d"].source
    assert isinstance(called, nodes.MixData) and called.parts[0].name == "mix"
    assert source(tmp_path, '1 * text("x") + 0 * text("y")') == nodes.TextData(paths=("x",))
    assert program(tmp_path, f"{texts}data d = a").data["d"].source == nodes.TextData(paths=("a",))
    sums = program(
        tmp_path, f'{texts}data d = 0.5 * a + 0.5 * text("x")\nbld x of w {{ tokens = 0, data = d }}'
    )
    assert set(references(sums.data["d"])) == {"a"} and sums.blds["x"].data == "d"


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


# ---------------------------------------------------------------- hardware and scenarios


@pytest.mark.states(
    "hardware.profile", "hardware.of", "hardware.literal", "hardware.measured", "hardware.table"
)
def test_hardware(tmp_path: Path) -> None:
    text = (
        'use "std/hardware.pzl" (h100_sxm)\nhardware a = h100_sxm\nhardware b = h100_sxm(gpus: 4)\n'
        "hardware c of h100_sxm { gpus = 4 }\nhardware d { memory = 8GB, bandwidth = 1TB/s, peak { bf16 = 1TFLOP/s } }\n"
        'hardware e = measured(device: cuda, dtype: bf16, gpus: 1, memory: 8GB)\nhardware f = table("c.csv")\n'
    )
    found = {name: each.spec for name, each in program(tmp_path, text).hardware.items()}
    assert isinstance(found["a"], nodes.RooflineHardware)
    assert found["b"] == found["c"] == found["a"].model_copy(update={"gpus": 4})
    assert isinstance(found["d"], nodes.RooflineHardware)
    assert found["d"].memory_bytes == 8 * 10**9
    assert found["e"] == nodes.MeasuredHardware(device="cuda", dtype="bf16", gpus=1, memory_bytes=8 * 10**9)
    assert found["f"] == nodes.TableHardware(path="c.csv")


@pytest.mark.states("hardware.engine")
def test_engines(tmp_path: Path) -> None:
    def measured(arguments: str) -> nodes.MeasuredHardware:
        spec = program(tmp_path, f"hardware e = measured({arguments})").hardware["e"].spec
        assert isinstance(spec, nodes.MeasuredHardware)
        return spec

    first = {"torch": "fp32", "llama_cpp": "f16", "vllm": "bf16", "mlx": "bf16"}
    for engine, dtype in first.items():
        assert measured(f"engine: {engine}") == nodes.MeasuredHardware(engine=engine, dtype=dtype)
    found = measured("engine: llama_cpp, dtype: q8_0, threads: 4")
    assert (found.dtype, found.threads) == ("q8_0", 4)
    for known, other in (("f32", "fp32"), ("f16", "fp16"), ("bf16", "int8")):
        assert measured(f"engine: llama_cpp, dtype: {known}").dtype == known
        assert codes(tmp_path, f"hardware e = measured(engine: llama_cpp, dtype: {other})").startswith("E")
    assert codes(tmp_path, "hardware e = measured(device: cpu, threads: 2)") == "E1808"
    before = nodes.MeasuredHardware(device="cuda", dtype="bf16")
    assert set(before.model_dump()) == {"kind", "device", "dtype", "gpus", "memory_bytes"}


@pytest.mark.states("hardware.running")
def test_price_and_power(tmp_path: Path) -> None:
    text = (
        'use "std/hardware.pzl" (h100_sxm)\nhardware a of h100_sxm { price = 2.5 USD/h, power = 700W }\n'
        "hardware b of a { gpus = 2 }\nhardware c = measured(device: cpu, price: 0.36 USD/h)\n"
    )
    found = {name: each.spec for name, each in program(tmp_path, text).hardware.items()}
    for name in ("a", "b"):
        spec = found[name]
        assert isinstance(spec, nodes.RooflineHardware)
        assert (spec.usd_per_s, spec.watts) == (Fraction(5, 7200), 700)
    assert isinstance(found["c"], nodes.MeasuredHardware) and found["c"].usd_per_s == Fraction(1, 10**4)
    cost = (
        text
        + "scenario x on a = batch(4, 128 -> 64)\nsearch z of w { maximize params, require x.cost_per_mtok <= 1USD }\n"
    )
    (required,) = program(tmp_path, cost).searches["z"].requirements
    assert isinstance(required, nodes.LinearRequirement)
    (term,) = required.left.terms
    assert term.coefficient == 10**6 * Fraction(5, 7200) / (4 * 64)
    assert codes(tmp_path, cost.replace("batch(4", "batch(4 | 8")) == "E1809"
    assert codes(tmp_path, cost.replace(" on a ", " on h ")) == "E1809"


@pytest.mark.states("scenario.batch", "scenario.batches", "scenario.auto")
def test_scenarios(tmp_path: Path) -> None:
    def scenario(batch: str) -> nodes.Scenario:
        return program(tmp_path, f"scenario s on h = batch({batch}, 128 -> 1Ki)").scenarios["s"]

    found = scenario("256")
    assert (found.batches, found.prompt, found.output, found.hardware) == ((256,), 128, 1024, "h")
    assert scenario("64 | 256 | 128").batches == (64, 128, 256)
    assert scenario("auto").batches == ()


@pytest.mark.states("scenario.per-gpu")
def test_figures_of_one_gpu_and_of_all(tmp_path: Path) -> None:
    from puzzledsl.ir.metrics import METRICS
    from puzzledsl.search.problem.metrics import Child
    from puzzledsl.search.tables import PARENT, tables_of

    text = (
        CARD
        + "hardware g4 = g(gpus: 4)\nscenario one on g = batch(4, 8 -> 8)\nscenario four on g4 = batch(4, 8 -> 8)\n"
    )
    goals = " + ".join(f"0 * {s}.{m}" for s in ("one", "four") for m in ("memory", "weights"))
    found = program(tmp_path, text + f"search s of w {{\n minimize one.memory + four.memory + {goals}\n}}")
    child = Child(tables_of(found, "s", cost_table(found, "w"), {}), (PARENT,) * 4, {"one": 4, "four": 4})
    one, four = (
        {m: child.term(nodes.MetricTerm.model_validate({"scenario": s, "metric": m})) for m in METRICS}
        for s in ("one", "four")
    )
    assert four["weights"] < one["weights"]
    assert four["kv_cache"] < one["kv_cache"]
    assert four["flops"] == one["flops"]
    assert four["throughput"] == 4 * 8 / four["latency"]


# ---------------------------------------------------------------- pieces and scores


@pytest.mark.states("bld.train", "bld.tokens")
def test_what_is_trained(tmp_path: Path) -> None:
    def bld(train: str) -> tuple[str, tuple[str, ...]]:
        found = program(tmp_path, DATA + f"bld b of w {{ tokens = 0, train = {train} }}").blds["b"]
        return found.mode, found.sub_blocks

    assert bld("attention + ffn") == ("decoupled", ("attention", "ffn"))
    assert bld("attention * ffn") == ("coupled", ("attention", "ffn"))
    assert bld("attention") == ("decoupled", ("attention",))
    assert bld("ffn") == ("decoupled", ("ffn",))
    assert program(tmp_path, PIECES).blds["b"].tokens == 1000


@pytest.mark.states("bld.train")
def test_how_many_pieces(tmp_path: Path) -> None:
    from puzzledsl.plan.bld import bld_plan

    text = DATA + "bld a of w { tokens = 1k }\nbld c of w { tokens = 1k, train = attention * ffn }"
    found = program(tmp_path, text)
    made = {(j.layer, j.attention, j.ffn) for j in bld_plan(found, "a")}
    together = {(j.layer, j.attention, j.ffn) for j in bld_plan(found, "c")}
    # parent and noop need no training; a pair does where one of its two does: gqa2, gqa1, linear; mlp96
    assert len(made) == 4 * (3 + 1)
    assert len(together) > 4 * 3 * 1


@pytest.mark.states("bld.heal")
def test_tokens_that_children_are_healed_on(tmp_path: Path) -> None:
    """`tests/healing` has which tokens these are; a text that healing alone reads is needed by the program, too."""
    two = 'data d = text("d.txt")\ndata other = text("o.txt")\n'
    bld = program(tmp_path, two + "bld b of w { tokens = 0, data = d, heal = 2Ki, heal_data = other }").blds[
        "b"
    ]
    assert (bld.data, bld.heal_tokens, bld.heal_data) == ("d", 2048, "other")
    assert set(references(bld)) == {"w", "d", "other"}
    mistaken = two + "bld b of w { tokens = 0, data = d, heal = -1, heal_data = w }"
    assert codes(tmp_path, mistaken) == "E0304 E0202"


@pytest.mark.states("lr.schedule")
def test_learning_rates(tmp_path: Path) -> None:
    def rate(text: str) -> nodes.Schedule:
        return program(tmp_path, DATA + f"bld b of w {{ tokens = 0, lr = {text} }}").blds["b"].lr

    assert rate("cosine(1e-3, warmup: 10%)") == nodes.Schedule(kind="cosine", peak=1e-3, warmup=0.1)
    assert rate("cosine(1e-3)") == nodes.Schedule(kind="cosine", peak=1e-3, warmup=0)
    assert rate("constant(1e-3, warmup: 10%)") == nodes.Schedule(kind="constant", peak=1e-3, warmup=0.1)
    assert rate("1e-3") == nodes.Schedule(kind="constant", peak=1e-3, warmup=0)


@pytest.mark.states("score.replace-one", "score.unit", "score.settings", "score.children")
def test_scores(tmp_path: Path) -> None:
    text = PIECES + "bld c of w { tokens = 1k, train = attention * ffn }\nsearch s of w { minimize kl }\n"

    def method(of: str, arguments: str) -> nodes.ReplaceOne:
        found = program(tmp_path, text + f"score x of {of} = replace_one({arguments})").scores["x"].method
        assert isinstance(found, nodes.ReplaceOne)
        return found

    assert [method("b", m).metric for m in ("kl_divergence", "lm_loss", "cosine")] == [
        "kl_divergence",
        "lm_loss",
        "cosine",
    ]
    accuracy = method("b", 'accuracy("tasks.jsonl")')
    assert (accuracy.metric, accuracy.tasks) == ("accuracy", "tasks.jsonl")
    agreements = [method("b", m) for m in ("top_k_agreement", "top_k_agreement()", "top_k_agreement(5)")]
    assert [(m.metric, m.top_k) for m in agreements] == [("top_k_agreement", k) for k in (1, 1, 5)]
    assert method("b", "kl_divergence").top_k is None
    assert (method("b", "lm_loss").unit, method("c", "lm_loss").unit) == ("subblock", "block")
    assert method("b", "lm_loss, unit: block").unit == "block"
    more = method("b", "lm_loss, samples: 4Ki, around: s, rounds: 2, data: d")
    assert (more.samples, more.around, more.rounds, more.data) == (4096, "s", 2, "d")
    fitted = {
        "kl_divergence": 24,
        "kl_divergence, samples: 1024": 24,
        "kl_divergence, samples: 1023": 0,
        "kl_divergence, samples: 256, pairwise: true": 24,
        "kl_divergence, around: s": 0,
        "cosine": 0,
        "kl_divergence, children: 8": 8,
    }
    assert {m: method("b", m).children for m in fitted} == fitted
    assert method("b", "kl_divergence, pairwise: true, children: 0").children == 0


@pytest.mark.states("score.runs", "score.runs-alone")
def test_scores_of_runs(tmp_path: Path) -> None:
    def method(arguments: str) -> nodes.ReplaceOne:
        found = program(tmp_path, PIECES + f"score x of b = replace_one({arguments})").scores["x"].method
        assert isinstance(found, nodes.ReplaceOne)
        return found

    assert method("kl_divergence, runs: 2..4").runs == (2, 4)
    assert method("lm_loss, runs: 3..3").runs == (3, 3)
    assert method("kl_divergence, samples: 4Ki, runs: 2..3").children == 0
    assert method("kl_divergence").runs is None
    for arguments in (
        "kl_divergence, runs: 1..2",
        "kl_divergence, runs: 2..99",
        "kl_divergence, runs: 2..3, pairwise: true",
        "kl_divergence, runs: 2..3, children: 8",
        'accuracy("tasks.jsonl"), runs: 2..3',
    ):
        assert codes(tmp_path, PIECES + f"score x of b = replace_one({arguments})")


@pytest.mark.states("score.healed", "score.healed-alone")
def test_scores_after_healing(tmp_path: Path) -> None:
    def method(arguments: str) -> nodes.ReplaceOne:
        found = program(tmp_path, PIECES + f"score x of b = replace_one({arguments})").scores["x"].method
        assert isinstance(found, nodes.ReplaceOne)
        return found

    assert method("kl_divergence").healed == 0
    both = method("kl_divergence, samples: 4Ki, healed: 2Ki, runs: 2..3")
    assert (both.healed, both.runs, both.children) == (2048, (2, 3), 0)
    assert method("top_k_agreement(5), healed: 512").healed == 512
    plain = method("kl_divergence, samples: 4Ki, healed: 0, pairwise: true")
    assert plain.pairwise and plain.children == method("kl_divergence, samples: 4Ki").children > 0
    for arguments in (
        "kl_divergence, healed: -1",
        "kl_divergence, healed: 2GiB",
        "kl_divergence, healed: 4Ki, pairwise: true",
        "kl_divergence, healed: 4Ki, children: 8",
        'accuracy("tasks.jsonl"), healed: 4Ki',
    ):
        assert codes(tmp_path, PIECES + f"score x of b = replace_one({arguments})")


@pytest.mark.states("score.table")
def test_score_tables(tmp_path: Path) -> None:
    from puzzledsl.search.score_table import read_score_table

    found = program(tmp_path, "")
    (tmp_path / "kl.csv").write_text(
        "layer,attention,ffn,kl\n,gqa2,,1\n,gqa1,,2\n,linear,,3\n,noop,,4\n,,mlp96,5\n,,noop,6\n2,noop,,7\n"
        "1-2,noop,noop,8\n"
    )
    table = read_score_table(tmp_path / "kl.csv", found.scores["kl"], found.spaces["w"])
    assert [layer["noop"] for layer in table.attention] == [4, 4, 7, 4]
    assert [(run.first, run.length, run.value) for run in table.runs] == [(1, 2, 8)]


# ---------------------------------------------------------------- the child


@pytest.mark.states(
    "uptrain.loss", "uptrain.settings", "uptrain.memory", "uptrain.dtype", "uptrain.ema", "uptrain.keep"
)
def test_uptraining(tmp_path: Path) -> None:
    def uptrain(body: str) -> nodes.Uptrain:
        text = DATA + f"search s of w {{ minimize kl }}\nuptrain u of s {{ {body} }}"
        if "tokens" not in body:
            text = text.replace("u of s { ", "u of s { tokens = 1k, ")
        return program(tmp_path, text).uptrains["u"]

    def weights(body: str) -> tuple[float, float, float]:
        return (found := uptrain(body)).kld, found.cosine, found.lm

    assert weights("") == weights("loss = 1 * kld + 1 * cosine + 0 * lm") == (1, 1, 0)
    assert weights("loss = kld * 2 + lm") == (2, 0, 1)
    peaks = {"1k": 2e-4, "65_535": 2e-4, "64Ki": 1e-4, "1B": 1e-4}
    for size, peak in peaks.items():
        assert uptrain(f"tokens = {size}").lr == nodes.Schedule(kind="cosine", peak=peak, warmup=0.05)
    sizes = {"12Ki": 4, "48Ki": 8, "1M": 32, "100": 1}
    assert {size: uptrain(f"context = 256, tokens = {size}").batch for size in sizes} == sizes
    assert uptrain("tokens = 1B").batch == 128
    assert uptrain("").fits_child and not uptrain("lr = cosine(1e-4)").fits_child
    found = uptrain("context = 512, batch = 4, lr = 1e-4, data = d, seed = 3")
    assert (found.context, found.batch, found.lr.peak, found.data, found.seed) == (512, 4, 1e-4, "d", 3)
    assert (found.micro_batch, found.dtype, found.ema, found.recompute) == (None, None, 0, False)
    found = uptrain("micro_batch = 2, dtype = bf16, ema = 99%, recompute = true")
    assert (found.micro_batch, found.dtype, found.ema, found.recompute) == (2, "bf16", 0.99, True)
    assert (found.keep, uptrain("keep = last").keep) == ("best", "last")
    assert "keep" not in found.model_dump(), "digests of programs without it stay"


@pytest.mark.states("eval.lm-eval")
def test_lm_eval_tasks(tmp_path: Path) -> None:
    text = (
        DATA
        + 'search s of w { minimize kl }\neval e of s { lm_eval = "arc_easy, hellaswag mmlu", shots = 5 }\neval f of s'
    )
    found = program(tmp_path, text).evals
    assert (found["e"].lm_eval, found["e"].shots) == (("arc_easy", "hellaswag", "mmlu"), 5)
    assert (found["f"].lm_eval, found["f"].shots) == ((), None)


@pytest.mark.states("eval.texts")
def test_evaluation_on_several_texts(tmp_path: Path) -> None:
    more = (
        DATA + 'data code = text("code.txt")\ndata more = text("more.txt")\nsearch s of w { minimize kl }\n'
    )
    found = program(
        tmp_path,
        more + "eval e of s { data = d + code + more + d }\neval f of s { data = code }\neval g of s",
    ).evals
    shown = {name: (e.data, e.more_data) for name, e in found.items()}
    assert shown == {"e": ("d", ("code", "more")), "f": ("code", ()), "g": (None, ())}
    assert codes(tmp_path, more + "eval e of s { data = d + w + 3 }") == "E0202 E0202"


CHILDREN = DATA + (
    "search s of w { minimize kl }\nsearch t of s { solver = greedy }\nuptrain u of s { tokens = 1k }\n"
    "uptrain far of other { tokens = 1k }\n"
    "space v of p { ffn = parent | noop }\nsearch other of v { maximize params }\n"
)


@pytest.mark.states("eval.full")
def test_children_that_are_evaluated_in_full(tmp_path: Path) -> None:
    named = {"e": "{ full = u + t }", "f": "{ full = u }", "g": ""}
    text = CHILDREN + "\n".join(f'eval {name} of u = tasks("a.jsonl") {body}' for name, body in named.items())
    found = program(tmp_path, text)
    assert {name: children_in_full(found, name) for name in named} == {
        "e": ("u", "t"),
        "f": ("u",),
        "g": ("s", "u"),
    }
    assert all(children_evaluated(found, name) == ("s", "u", "t") for name in named)


@pytest.mark.states("eval.dtype")
def test_the_dtype_that_tasks_are_answered_in(tmp_path: Path) -> None:
    named = {"e": "{ dtype = bf16 }", "f": "{ dtype = fp32 }", "g": ""}
    text = CHILDREN + "\n".join(f'eval {name} of u = tasks("a.jsonl") {body}' for name, body in named.items())
    evals = program(tmp_path, text).evals
    assert {name: evals[name].dtype for name in named} == {"e": "bf16", "f": "fp32", "g": None}
    assert codes(tmp_path, CHILDREN + 'eval e of u = tasks("a.jsonl") { dtype = fp8 }') == "E0305"


ANOTHER = """\
parent q = hf("other", shape: shape(family: llama, layers: 4, hidden: 64, heads: 4, head_dim: 16, intermediate: 192, vocab: 256))
"""


@pytest.mark.states("data.sampled")
def test_text_that_a_parent_writes(tmp_path: Path) -> None:
    text = ANOTHER + (
        "data a = sampled(p, tokens: 1M)\n"
        'data b = sampled(p, tokens: 2k, temperature: 0.7, prompts: "p.txt", length: 64, top_k: 50, seed: 3, dtype: bf16, take: 1k)\n'
        'data c = 0.5 * text("t.txt") + 0.5 * sampled(p, tokens: 1k)\n'
        "data d = mix(a: 2, c: 1)\n"
    )
    found = program(tmp_path, text)
    assert found.data["a"].source == nodes.SampledData(parent="p", tokens=1_000_000)
    wanted = {"temperature": 0.7, "prompts": "p.txt", "length": 64, "top_k": 50, "seed": 3, "dtype": "bf16"}
    assert found.data["b"].source == nodes.SampledData(parent="p", tokens=2000, take=1000, **wanted)
    assert [part.inline for part in found.data["c"].source.parts] == [True, True]
    assert {name: with_written(data) for name, data in found.data.items()} == {
        "a": ["a"],
        "b": ["b"],
        "c": ["c"],
        "d": ["d", "a"],
    }
    assert set(references(found.data["c"])) == {"p"}


@pytest.mark.states("data.sampled")
@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("sampled(p)", "E0209"),
        ("sampled(tokens: 1k)", "E0209"),
        ("sampled(w, tokens: 1k)", "E0202"),
        ("sampled(p, tokens: 0)", "E0304"),
        ("sampled(p, tokens: 1k, temperature: 0)", "E0304"),
        ("sampled(p, tokens: 1k, temperature: -1)", "E0304"),
        ('sampled(p, tokens: 1k, prompts: "Why?")', "E0432"),
        ("sampled(p, tokens: 1k, dtype: fp8)", "E0305"),
        ("sampled(q, tokens: 1k)", "E0433"),
    ],
)
def test_mistakes_in_text_that_a_parent_writes(tmp_path: Path, call: str, expected: str) -> None:
    text = ANOTHER + f"data d = {call}\n"
    assert codes(tmp_path, text + "bld b of w { tokens = 1k, data = d }\n") == expected


@pytest.mark.states("eval.prompts")
def test_prompts_of_an_evaluation(tmp_path: Path) -> None:
    bodies = {
        "a": 'prompts = "p.jsonl"',
        "b": 'prompts = prompts("Why?", "How?")',
        "c": "prompts = none",
        "plain": "tokens = 8Ki",
        "f": "prompts = asked",
    }
    text = (
        CHILDREN
        + 'let asked = prompts("Who?")\n'
        + "\n".join(f"eval {n} of u {{ {b} }}" for n, b in bodies.items())
    )
    evals = program(tmp_path, text).evals
    assert {name: evals[name].prompts for name in bodies} == {
        "a": nodes.Prompts(path="p.jsonl"),
        "b": nodes.Prompts(texts=("Why?", "How?")),
        "c": nodes.Prompts(),
        "plain": None,
        "f": nodes.Prompts(texts=("Who?",)),
    }
    assert "prompts" not in evals["plain"].model_dump()
    assert codes(tmp_path, CHILDREN + 'eval e of u { prompts = "Why?" }') == "E0432"


@pytest.mark.states("eval.full")
@pytest.mark.parametrize(
    ("full", "expected"),
    [
        ("s", "E0431"),
        ("t + s", "E0431"),
        ("u + s + u", "E0208"),
        ("u + other", "E0413"),
        ("u + far", "E0413"),
        ("u + d", "E0202"),
        ("u + nowhere", "E0201"),
    ],
)
def test_children_that_cannot_be_evaluated_in_full(tmp_path: Path, full: str, expected: str) -> None:
    assert codes(tmp_path, CHILDREN + f'eval e of u = tasks("a.jsonl") {{ full = {full} }}') == expected


@pytest.mark.states("eval.tasks", "export.formats")
def test_evaluation_and_export(tmp_path: Path) -> None:
    text = DATA + (
        "search s of w { minimize kl }\nuptrain u of s { tokens = 1k }\n"
        'eval e of u = tasks("a.jsonl", "b.jsonl") { items = 20, tokens = 4Ki }\neval f of s\n'
        'export x of u = hf("dir", runtime: vllm, lower: true)\nexport y of s = gguf("c.gguf", dtype: f16, lower: true)\nexport z of s = mlp\n'
    ).replace("= mlp\n", '= mlx("dir", lower: true)\n')
    found = program(tmp_path, text)
    one = found.evals["e"]
    assert (one.tasks, one.items, one.tokens, one.of) == (("a.jsonl", "b.jsonl"), 20, 4096, "u")
    assert (found.evals["f"].tasks, found.evals["f"].tokens) == ((), 8192)
    shown = {n: (x.format, x.path, x.runtime, x.dtype) for n, x in found.exports.items()}
    assert shown == {
        "x": ("hf", "dir", "vllm", None),
        "y": ("gguf", "c.gguf", "llama_cpp", "f16"),
        "z": ("mlx", "dir", "mlx", None),
    }


@pytest.mark.states("export.lowered")
def test_what_a_runtime_lacks(tmp_path: Path) -> None:
    text = (
        "space v of p { attention = parent | noop, ffn = parent | linear }\nsearch s of v { maximize params }\n"
        "space u of p { attention = parent | gqa(kv_heads: 2, window: 64, sinks: 4) }\nsearch t of u { maximize params }\n"
    )
    assert codes(tmp_path, text + 'export x of s = hf("x")') == ""
    lacking = outcome(tmp_path, text + 'export x of s = hf("x", runtime: vllm)').diagnostics
    assert lacking and all(d.severity == "warning" for d in lacking)
    assert "latency" in "".join(" ".join((d.help, *d.notes)) for d in lacking)
    assert codes(tmp_path, text + 'export x of s = hf("x", runtime: vllm, lower: true)') == ""
    refused_ = outcome(tmp_path, text + 'export x of s = hf("x", runtime: vllm, lower: false)').diagnostics
    assert refused_ and all(d.severity == "error" for d in refused_)
    nothing = outcome(tmp_path, text + 'export x of t = hf("x", runtime: vllm, lower: true)').diagnostics
    assert nothing and all(d.severity == "error" for d in nothing)


def test_a_wrong_line_is_found_where_it_stands(tmp_path: Path) -> None:
    (found,) = outcome(tmp_path, "\n\nlet x = 1GiB + 3s").diagnostics
    assert found.span is not None and found.span.line == 3


@pytest.mark.states("uptrain.text")
def test_uptraining_reads_behind_what_the_child_was_made_from(tmp_path: Path) -> None:
    """As `tests/child/healing/test_text.py` checks on tokens."""
    from puzzledsl.child.healing.text import blocks_read

    body = "{ tokens = 8Ki, context = 256, calibration = 2Ki, heal = 12Ki }"
    found = program(
        tmp_path, DATA + f"bld b of w {body}\nscore k of b = replace_one(kl_divergence, samples: 512)"
    )
    assert blocks_read(found, "d", 256, 0) >= (8 + 2 + 12 - 10) * 1024 // 256 + 2
    assert blocks_read(found, "d", 512, 0) == 0
