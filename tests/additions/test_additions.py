"""Additions to a copy of the tree, each in the files that it may touch, and then used: check, completion, hover, docs, a run.

A setting is one file, a metric two, a diagnostic one and its golden, an evaluation measure two, an alternative its two,
a family one. All are patched into one copy, since they must not get into each other's way.
"""

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.additions.tree import ROOT, Tree
from tests.cli.test_explain import PRELUDE

HEAD = """\
parent p = shape(family: llama, layers: 2, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, intermediate: 192, vocab: 256)
space w of p { ffn = parent | noop }
data d = text("d.txt")
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    tree, touched = Tree(tmp_path_factory.mktemp("additions")), set[str]()
    for add, most in (
        (add_setting, 1),
        (add_metric, 2),
        (add_diagnostic, 2),
        (add_alternative, 2),
        (add_family, 1),
        (add_measure, 2),
    ):
        add(tree)
        assert len(tree.touched - touched) == most, tree.touched - touched
        touched |= tree.touched
    tree.python(str(tree.root / "scripts/reference.py"))
    return tree


# ---------------------------------------------------------------- a setting

SETTING = """\
    horizon: int = setting(
        "Tokens behind a change that still count.", default=64, at_least=1, at_most=4096, elsewhere=("lookahead",)
    )
"""
BLD = "bld b of w {{ tokens = 1k, {} }}\n"


def add_setting(tree: Tree) -> None:
    tree.insert("puzzledsl/ir/stage_nodes.py", '    loss: Literal["normalized_mse"', SETTING)


def test_a_setting(tree: Tree) -> None:
    wrong = {
        "horizon = 5000": "`horizon` must be 1 to 4096, not 5000",
        "horizon = 1.5": "`horizon` must be a whole number, not 1.5",
        "horizon = 3GiB": "`horizon` must be a plain number, not Bytes",
        "horizn = 3": "did you mean `horizon`?",
        "lookahead = 3": "did you mean `horizon`?",
    }
    programs = [tree.program(f"setting{i}.pzl", HEAD + BLD.format(each)) for i, each in enumerate(wrong)]
    used = tree.program(
        "setting.pzl", HEAD + BLD.format("seed = 0") + "bld c of w { tokens = 2k, horizon = 128 }\n"
    )
    changed = tree.program("changed.pzl", HEAD + BLD.format("horizon = 9"))
    *said, compiled, planned, offered, explained = tree.ask(
        *(("pzl", "check", program) for program in programs),
        ("pzl", "compile", used, "-o", "setting"),
        ("pzl", "plan", used, changed),
        ("complete", HEAD + "bld b of w { ‸ }"),
        ("hover", HEAD + "bld b of w { tokens = 1k, ho‸rizon = 3 }"),
    )
    for (code, text), expected in zip(said, wrong.values(), strict=True):
        assert code == 1 and expected in text
    assert compiled[0] == 0
    blds = json.loads((tree.programs / "setting/ir.json").read_text("utf-8"))["blds"]
    assert (blds["b"]["horizon"], blds["c"]["horizon"]) == (64, 128)
    assert "~ horizon: 64 -> 9" in planned[1]
    assert "horizon" in offered and "Tokens behind a change that still count." in explained
    assert "| `horizon` | `64` | Tokens behind a change that still count. |" in tree.page("docs/language.md")


# ---------------------------------------------------------------- a metric

METRIC = """    Metric(
        "prompt_flops",
        FLOPS,
        "less",
        "Floating-point operations of the prompts alone.",
        {"prefill_flop": "once"},
    ),
"""
VERIFIED = """            "prompt_flops": Fraction(sum(c.prefill_flop for c in costs)),
"""


def add_metric(tree: Tree) -> None:
    tree.insert("puzzledsl/ir/metric_records.py", '    Metric(\n        "cost_per_mtok"', METRIC)
    tree.insert("puzzledsl/search/verify.py", '            "batch": Fraction(batch),', VERIFIED)


def test_a_metric(tree: Tree) -> None:
    frontier = (ROOT / "examples/frontier.pzl").read_text("utf-8").partition("frontier speed")[0]
    text = frontier.replace("require chat.throughput >= 1.3x", "require chat.prompt_flops <= 0.8x")
    (tree.programs / "frontier_kl.csv").write_bytes((ROOT / "examples/frontier_kl.csv").read_bytes())
    program = tree.program("metric.pzl", text)
    changes = {
        "misspelt": text.replace("chat.prompt_flops", "chat.prompt_flop"),
        "turned": text.replace("prompt_flops <= 0.8x", "prompt_flops >= 0.8x"),
        "unit": text.replace("prompt_flops <= 0.8x", "prompt_flops <= 8GiB"),
    }
    checked, misspelt, turned, unit, cost, solved, reported, offered, explained = tree.ask(
        ("pzl", "check", program),
        *(("pzl", "check", tree.program(f"{name}.pzl", each)) for name, each in changes.items()),
        ("pzl", "cost", program),
        ("pzl", "solve", program, "best", "-o", "metric"),
        ("pzl", "report", program, "-o", "metric"),
        ("complete", text.replace("chat.prompt_flops", "chat.‸")),
        ("hover", text.replace("chat.prompt", "chat.p‸rompt")),
    )
    assert checked[0] == 0 and "warning" not in checked[1]
    assert misspelt[0] == 1 and "did you mean `prompt_flops`?" in misspelt[1]
    assert "W0304" in turned[1] and "less of `chat.prompt_flops` is better" in turned[1]
    assert unit[0] == 1 and "FLOP" in unit[1]
    assert cost[0] == 0 and "prompt_flops" in cost[1]
    assert solved[0] == 0 and "optimal" in solved[1]
    answer = json.loads((tree.programs / "metric/solutions/best.json").read_text("utf-8"))
    child, parent = (
        of["chat.prompt_flops"] for of in (answer["solutions"][0]["metrics"], answer["parent_metrics"])
    )
    assert 0 < Fraction(child) <= Fraction(4, 5) * Fraction(parent)
    assert reported[0] == 0 and "prompt_flops" in (tree.programs / "metric/report.html").read_text("utf-8")
    assert "prompt_flops" in offered
    assert "`chat.prompt_flops` (FLOP): Floating-point operations of the prompts alone." in explained
    row = "| `prompt_flops` | FLOP | Floating-point operations of the prompts alone. |"
    assert row in tree.page("docs/language.md") and "prompt_flops" in tree.page("docs/schema/ir.schema.json")


# ---------------------------------------------------------------- a diagnostic

REPORTED = """\
    for item in ctx.root.module.items:
        if getattr(item, "kind", None) and item.kind.text == "search" and not program.searches[item.name.text].requirements:
            ctx.report(Unrequired(item.kind.span, "it has no `require`", name=item.name.text))
"""
DIAGNOSTIC = """

Unrequired = Mistake(
    "W0399", "search `{name}` requires nothing", "say what the child must achieve: `require …`"
)
"""
SAID = """\
warning[W0399]: search `s` requires nothing
 --> example.pzl:1:1
  |
1 | search s of w { minimize kl }
  | ^^^^^^ it has no `require`
  = help: say what the child must achieve: `require …`
"""
GOLDEN = f"""\
A search without a requirement.

The parent itself would do.

```pzl wrong
search s of w {{ minimize kl }}
```

```text
{SAID}```

```pzl right
search s of w {{ minimize kl, require params <= 0.9x }}
```
"""
LINTS = "puzzledsl/checker/whole.py"


def add_diagnostic(tree: Tree) -> None:
    last = "    warn_of_few_tokens(ctx, program)\n"
    patched = tree.page(LINTS).replace(last, last + REPORTED)
    imported = "from puzzledsl.base.diagnostics import Mistake\n"
    first = "from collections.abc import"
    tree.write(LINTS, patched.replace(first, imported + first, 1) + DIAGNOSTIC)
    tree.write("errors/W0399.md", GOLDEN)


@pytest.mark.more
def test_a_diagnostic(tree: Tree) -> None:
    listed, explained = tree.ask(("pzl", "explain"), ("pzl", "explain", "399"))
    assert "W0399  A search without a requirement." in listed[1]
    said = "warning[W0399]: search `…` requires nothing\n"
    assert explained[1].startswith(said) and "<= 0.9x" in explained[1]
    made = "### W0399: search `…` requires nothing\n\nA search without a requirement. The parent"
    assert made in tree.page("docs/errors.md")
    file = str(tree.root / "tests/cli/test_explain.py")
    assert " passed" in tree.python("-m", "pytest", "-q", "-p", "no:cacheprovider", file, "-k", "W0399")
    (checked,) = tree.ask(
        ("pzl", "check", tree.program("example.pzl", f"search s of w {{ minimize kl }}\n{PRELUDE}"))
    )
    assert SAID in checked[1]


# ---------------------------------------------------------------- an alternative

LOW_RANK = ROOT / "tests/plugins/low_rank"


def add_alternative(tree: Tree) -> None:
    declared, made = ((LOW_RANK / name).read_text("utf-8") for name in ("low_rank.py", "low_rank_module.py"))
    ways = '    initialisers: ClassVar[tuple[str, ...]] = ("least_squares", "random")\n'
    first = "    positional: ClassVar[int] = 1\n"
    tree.write("puzzledsl/alternatives/low_rank.py", declared.replace(first, first + ways))
    own = made.replace("from low_rank import", "from puzzledsl.alternatives.low_rank import")
    tree.write("puzzledsl/models/alternatives/low_rank.py", own)


def test_an_alternative(tree: Tree) -> None:
    text = HEAD.replace("parent | noop", "parent | low_rank(rank: 12 | 6)")
    wrong = {
        "low_rank()": "write `low_rank(rank: 96)`",
        "low_rank(rank: 65)": "1 to 64",
        "low_rank(size: 4)": "it has `rank`",
        "low_rnk(rank: 4)": "did you mean `low_rank`?",
    }
    changed = [text.replace("low_rank(rank: 12 | 6)", each) for each in wrong]
    chosen = text.replace(" }\n", ", init { low_rank = random } }\n", 1)
    *said, shown, compiled, offered, ways, explained = tree.ask(
        *(("pzl", "check", tree.program(f"rank{i}.pzl", each)) for i, each in enumerate(changed)),
        ("pzl", "show", tree.program("rank.pzl", text), "w"),
        ("pzl", "compile", tree.program("chosen.pzl", chosen), "-o", "chosen"),
        ("complete", HEAD.replace("parent | noop", "parent | ‸")),
        ("complete", text.replace(" }\n", ", init { low_rank = ‸ } }\n", 1)),
        ("hover", text.replace("low_rank", "low_r‸ank")),
    )
    for (code, found), expected in zip(said, wrong.values(), strict=True):
        assert code == 1 and expected in found
    assert re.search(rf"low_rank12 +192 +{3 * 12 * (64 + 192) + 64}\b", shown[1]), shown[1]
    assert compiled[0] == 0
    ir = json.loads((tree.programs / "chosen/ir.json").read_text("utf-8"))
    assert ir["spaces"]["w"]["init"]["low_rank"] == "random"
    assert {"kind": "low_rank", "rank": 6} in ir["spaces"]["w"]["layers"][0]["ffn"]
    assert "low_rank" in offered and ways == ["least_squares", "random"]
    assert "maps of low rank" in explained
    assert "`low_rank" in tree.page("docs/language.md") and "LowRankFfn" in tree.page(
        "docs/schema/ir.schema.json"
    )


# ---------------------------------------------------------------- a family

FAMILY = '''\
"""Seed-OSS: as Llama, where the biases of queries, keys and values are not those of the output."""

from __future__ import annotations

from typing import Any

from puzzledsl.alternatives.shape import Shape
from puzzledsl.families.config import Config
from puzzledsl.families.family import BIASES, Family, Sizes


def _read(config: Config, sizes: dict[str, Any]) -> Shape:
    biases = {"attention_bias": config.flag("attention_bias", True), "output_bias": config.flag("attention_out_bias")}
    return Shape(**sizes | biases)


FAMILY = Family(
    "seed_oss",
    "SeedOss",
    Sizes(("mlp_bias",), head_dim=128, kv_heads=8, not_null=()),
    _read,
    literal={"attention_bias": True},
    takes=("tied", *BIASES, "mlp_bias"),
)
'''


def add_family(tree: Tree) -> None:
    tree.write("puzzledsl/families/seed_oss.py", FAMILY)


def test_a_family(tree: Tree) -> None:
    text = HEAD.replace("family: llama", "family: seed_oss, mlp_bias: true")
    misspelt, compiled, offered, explained = tree.ask(
        ("pzl", "check", tree.program("seed.pzl", HEAD.replace("family: llama", "family: seed_os"))),
        ("pzl", "compile", tree.program("seeds.pzl", text), "-o", "seeds"),
        ("complete", HEAD.replace("family: llama", "family: ‸")),
        ("hover", text.replace("of p {", "of ‸p {")),
    )
    assert misspelt[0] == 1 and "seed_oss" in misspelt[1]
    assert compiled[0] == 0, compiled[1]
    shape = json.loads((tree.programs / "seeds/ir.json").read_text("utf-8"))["parents"]["p"]["shape"]
    assert (shape["family"], shape["attention_bias"], shape["mlp_bias"]) == ("seed_oss", True, True)
    assert "seed_oss" in offered and "seed_oss" in explained
    assert "`seed_oss`" in tree.page("docs/language.md")


# ---------------------------------------------------------------- an evaluation measure

MEASURE = """\
    Measure(
        "reverse_kl",
        "KL divergence of the parent",
        "less",
        "KL divergence of the parent from the model, in nats a token.",
        unit="nats",
    ),
"""
MEASURED = """    "reverse_kl": lambda chunk: kl_divergence(chunk.model_CV, chunk.parent_CV),
"""


def add_measure(tree: Tree) -> None:
    tree.insert("puzzledsl/ir/tables/evaluations.py", '    Measure(\n        "perplexity"', MEASURE)
    tree.insert("puzzledsl/evaluate/divergence.py", '    "perplexity": Chunk.surprise_C,', MEASURED)


# ---------------------------------------------------------------- a run with all of them

CHANGES = {
    "ffn = parent | mlp(width: 50%) | linear | noop": "ffn = parent | low_rank(rank: 12)",
    "calibration = 512": "calibration = 512, heal = 0, horizon = 3",
    "require chat.throughput >= 1.2x": "require chat.prompt_flops <= 0.95x",
}
"""A small program -> one with every addition, which ends in the evaluation of its search."""


@pytest.fixture(scope="module")
def ran(tree: Tree) -> Path:
    from tests.pipeline.tiny_program import write_tiny_program  # with torch, which the others do without
    from tests.tiny import save_tiny

    quality = "eval quality of best { data = corpus, tokens = 64, prompts = none }\n"
    program = write_tiny_program(tree.programs, quality)
    save_tiny(tree.programs / "parent", "seed_oss", layers=3)
    text = program.read_text("utf-8")
    for old, new in CHANGES.items():
        assert old in text
        text = text.replace(old, new)
    tree.python("-m", "puzzledsl.cli.main", "run", tree.program("run.pzl", text), "-o", "build")
    return tree.programs / "build"


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


@pytest.mark.slow
def test_a_run_makes_scores_and_measures_what_was_added(ran: Path) -> None:
    (parent,) = read(ran / "ir.json")["parents"].values()
    shape = parent["shape"]
    assert shape["family"] == "seed_oss" and shape["attention_bias"] and not shape.get("output_bias")
    scores = read(ran / "scores/kl.json")
    assert all(layer["low_rank12"] > 0 for layer in scores["ffn"])
    (solution,) = read(ran / "solutions/best.json")["solutions"]
    assert "low_rank12" in {layer["ffn"] for layer in solution["layers"]}
    parent, child = read(ran / "evals/quality.json")["models"]
    assert parent["figures"]["reverse_kl"]["value"] == 0 < child["figures"]["reverse_kl"]["value"]
    assert child["figures"]["reverse_kl"]["value"] != child["figures"]["kl"]["value"]
    page = (ran / "report.html").read_text("utf-8")
    assert "KL divergence of the parent" in page and "low_rank12" in page
