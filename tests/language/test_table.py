"""The table of the vocabulary and the checker agree in both directions, and the table agrees with the IR's types."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import pytest

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.alternatives.shape import Mixer, StateShape
from puzzledsl.base.diagnostics import Diagnostic, Span
from puzzledsl.base.frozen import type_of
from puzzledsl.base.settings import Setting, calls_of
from puzzledsl.checker.check import LOWERINGS, check
from puzzledsl.checker.expressions.settings import Settings
from puzzledsl.families.registry import FAMILIES
from puzzledsl.ir import facts, nodes
from puzzledsl.ir.engines import RUNTIMES
from puzzledsl.ir.metric_records import metrics_under
from puzzledsl.ir.search_nodes import REFINES, SOLVERS
from puzzledsl.ir.stage_nodes import EXPORTS, SCORE_METRICS
from puzzledsl.language import kinds, words
from puzzledsl.language.kinds import ALTERNATIVES, HARDWARE_FACTS, INITIALISERS, KINDS, SHAPE, pattern_fields
from tests.checker.programs import checked
from tests.checker.test_lowering import RIGHT
from tests.families.test_literal import LAYER_RULES
from tests.fixes.corpus import NEWER

PARENTS: dict[str, Alternative] = {"attention": ParentAttention(), "ffn": ParentFfn()}
SCHEDULES = calls_of(nodes.Schedule)
NOT_DECLARED = {"format_version", "inputs", "source", "params", "given"}
"""Fields of a program that hold no declarations."""
BASE = """\
use "std/hardware.pzl" (h100_sxm)
parent p = shape(family: llama, layers: 4, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, intermediate: 192, vocab: 256)
parent sparse = shape(family: qwen3_moe, layers: 4, hidden: 64, heads: 8, head_dim: 8, vocab: 256, experts: 8, top_k: 2, expert_width: 32)
hardware h = h100_sxm(gpus: 1)
scenario s on h = batch(1, 1 -> 1)
space w of p { attention = parent | noop }
data d = text("x.txt")
bld b of w { tokens = 1k, data = d }
score kl of b = replace_one(kl_divergence)
search q of w { minimize kl }
uptrain u of q { tokens = 1k, data = d }
"""
NOBODY = "zzzzzzzzzzzzzzzz"
TARGET = {"parent": "p", "space": "w", "hardware": "h", "bld": "b", "search": "q", "uptrain": "u"}


def check_with_base(folder: Path, text: str) -> tuple[Diagnostic, ...]:
    return checked(folder, BASE + text).diagnostics


def head(kind: str) -> str:
    known = KINDS[kind]
    target = (
        f" {known.preposition} {TARGET[known.targets[0]]}" if known.targets and kind != "hardware" else ""
    )
    return f"{kind} x{target}"


def test_the_tables_have_what_the_ir_has() -> None:
    """The tables of declarations, metrics, schedules, exports, starts, shapes and mixers hold the words of the IR's types."""
    assert list(KINDS) == list(LOWERINGS)
    assert {kind.plural for kind in KINDS.values()} == set(nodes.Program.model_fields) - NOT_DECLARED
    assert list(SOLVERS) == ["cpsat"]
    assert set(SCORE_METRICS) == set(get_args(type_of(nodes.ReplaceOne, "metric")))
    assert set(SCHEDULES) == set(get_args(type_of(nodes.Schedule, "kind")))
    assert set(EXPORTS) == set(get_args(type_of(nodes.Export, "format")))
    assert {r for call in EXPORTS.values() for r in call.arguments["runtime"].words} == set(RUNTIMES)
    assert set(INITIALISERS) == set(nodes.Initialisers.model_fields)
    assert set(SHAPE.arguments) <= {*nodes.Shape.model_fields, *LAYER_RULES}
    assert {"attention", "linear", "none", *kinds.MIXERS} == set(get_args(Mixer))
    assert all(len(mixer.arguments) == len(StateShape.model_fields) for mixer in kinds.MIXERS.values())


def test_alternatives_are_the_irs() -> None:
    unions = {"attention": AttentionAlternative, "ffn": FfnAlternative}
    for sub_block, union in unions.items():
        members = get_args(get_args(union)[0])
        assert list(ALTERNATIVES[sub_block]) == [m.model_fields["kind"].default for m in members]
        for member in members:
            name = member.model_fields["kind"].default
            types = {"dtype": member.quantisable, "kv_cache": member.has_cache}
            without = {"kind", *(field for field, is_taken in types.items() if not is_taken)}
            assert set(pattern_fields(ALTERNATIVES[sub_block][name])) == set(member.model_fields) - without


def test_facts_can_be_read() -> None:
    shape = nodes.Shape(
        family="llama", layers=4, hidden=64, heads=8, kv_heads=4, head_dim=8, intermediate=192, vocab=256, tied=False
    )  # fmt: skip
    assert all(facts.parent_fact(shape, name) is not None for name in kinds.PARENT_FACTS)
    for sub_block, names in words.SUB_BLOCK_FACTS.items():
        assert all(facts.fact(PARENTS[sub_block], name, shape) >= 0 for name in names)


# ---------------------------------------------------------------- both ways

RARE = f"""\
parent recurrent = shape(family: nemotron_h, pattern: "M-M*", hidden: 64, heads: 8, head_dim: 8, intermediate: 192,
  vocab: 256, mixer: mamba2(heads: 8, head_dim: 16, groups: 2, state: 16))
parent delta = shape(family: qwen3_next, layers: 4, hidden: 64, heads: 8, head_dim: 8, vocab: 256, experts: 8, top_k: 2,
  expert_width: 32, mixer: delta_net(heads: 8, head_dim: 16, key_heads: 2, key_dim: 16))
hardware own {{ memory = 80GiB, bandwidth = 1TB/s, peak {{ {", ".join(f"{dtype} = 1TFLOP/s" for dtype in words.DTYPES)} }} }}
space strange of sparse {{ attention = linear | gqa(2, window: 64, sinks: 4), ffn = moe(experts: 2, top_k: 1) }}
space stored of p {{ ffn = linear(dtype: int8), head = parent(dtype: q8_0), embedding = parent(dtype: q4_0) }}
"""
"""Declarations that no program of the other tests has."""
Tables = dict[int, tuple[Mapping[str, Setting], set[str]]]


@pytest.fixture(scope="module")
def reads(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """Check programs that use everything; return the tables that the checker read, each with the names it asked for."""
    found: Tables = {}

    def note(settings: Settings, key: str) -> Setting:
        found.setdefault(id(settings.table), (settings.table, set()))[1].add(key)
        return known(settings, key)

    known = Settings.known
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Settings, "known", note)
        folder = tmp_path_factory.mktemp("table")
        said = [*check_with_base(folder, RARE), *checked(folder, NEWER).diagnostics]
        said += [d for program in RIGHT for d in check(program, {}).diagnostics]
    assert [d for d in said if d.severity == "error"] == []
    return found


def _all_tables() -> dict[str, Mapping[str, Setting]]:
    """Return every table whose names are read through `Settings`, by its owner's name."""
    found = {name: kind.settings for name, kind in KINDS.items() if name != "space"}
    found |= {f"{k}.{n}": s.settings for k, v in KINDS.items() for n, s in v.sections.items()}
    queue = [(name, kind.value) for name, kind in KINDS.items() if kind.value]
    queue += [each for kind in KINDS.values() for each in kind.settings.items()]
    while queue:
        owner, setting = queue.pop()
        for name, call in setting.calls.items():
            found[f"{owner}.{name}"] = call.arguments
            queue += call.arguments.items()
    return {name: table for name, table in found.items() if table}


@pytest.mark.parametrize("name", _all_tables())
def test_the_checker_reads_every_setting_of_the_table(name: str, reads: Tables) -> None:
    table = _all_tables()[name]
    _, asked = reads[id(table)]
    assert {key for key in asked if not key.isdigit()} == {*table}


def test_the_checker_reads_from_no_other_table(reads: Tables) -> None:
    known = {id(table) for table in _all_tables().values()}
    assert [list(table) for key, (table, _) in reads.items() if key not in known and table] == []


def test_what_the_table_lacks_cannot_be_read() -> None:
    settings = Settings(None, "`gqa`", Span("", 1, 1, 1, 1), ALTERNATIVES["attention"]["gqa"].arguments)  # type: ignore[arg-type]
    assert not settings.has("window")
    for reader in (settings.has, settings.place, settings.symbol, settings.read):
        with pytest.raises(KeyError, match="nobody"):
            reader("nobody")


# ---------------------------------------------------------------- what the checker lists

CALLS = [
    (f"{head(k)} = {n}({{}})\n", n, c) for k, v in KINDS.items() if v.value for n, c in v.value.calls.items()
]
CALLS = [(text.replace("of p = used_by", "of w = used_by"), name, call) for text, name, call in CALLS]
for place, calls in {
    "space x of p {{{{ attention = {call} }}}}\n": ALTERNATIVES["attention"],
    "space x of {parent} {{{{ ffn = {call} }}}}\n": ALTERNATIVES["ffn"],
    "search x of w {{{{ minimize kl, solver = {call} }}}}\n": SOLVERS,
    "search x of w {{{{ minimize kl, refine = {call} }}}}\n": REFINES,
    "bld x of w {{{{ tokens = 1, lr = {call} }}}}\n": SCHEDULES,
    "score x of b = replace_one({call})\n": SCORE_METRICS,
}.items():
    texts = {n: place.format(call=f"{n}({{}})", parent="sparse" if n == "moe" else "p") for n in calls}
    CALLS += [(texts[name], name, call) for name, call in calls.items()]


def body_names(kind: str) -> set[str]:
    """Return the names that the checker lists for a body of this kind."""
    known = {*KINDS[kind].settings, *KINDS[kind].sections}
    more = {"search": {*KINDS[kind].statements} - {"let", "assert"}, "space": {"layers"}}
    return known | more.get(kind, set())


LISTED: list[tuple[str, set[str]]] = [
    (f"search x of w {{ minimize kl, require layers[1].{NOBODY} == 1 }}\n", {*words.LAYER_FACTS}),
    (f"let x = s.{NOBODY}\n", {*metrics_under(traffic=False), *words.SCENARIO_FACTS}),
    (f"let x = h.{NOBODY}\n", {*HARDWARE_FACTS}),
    (f"hardware x = h100_sxm({NOBODY}: 1)\n", {*KINDS["hardware"].settings}),
    *((f"{head(k)} {{ {NOBODY} = 1 }}\n", body_names(k)) for k, v in KINDS.items() if v.settings),
    *(
        (f"{head(k)} {{ {name} {{ {NOBODY} = 1 }} }}\n", {*section.settings})
        for k, v in KINDS.items()
        for name, section in v.sections.items()
    ),
    *((text.format(f"{NOBODY}: 1"), {*call.arguments}) for text, _, call in CALLS),
    *(
        (f"{head(k)} {{ {n} = {NOBODY} }}\n", {*s.words})
        for k, v in KINDS.items()
        for n, s in v.settings.items()
        if s.words and s.type is not bool and not s.sums and not s.calls
    ),
    *(
        (text.format(f"{n}: {NOBODY}"), {*s.words})
        for text, _, call in CALLS
        for n, s in call.arguments.items()
        if s.words and s.type is not bool and n not in ("window", "batch")
    ),
]


@pytest.mark.parametrize(("text", "known"), LISTED, ids=lambda v: v if isinstance(v, str) else "")
def test_what_the_checker_lists_is_the_tables(text: str, known: set[str], tmp_path: Path) -> None:
    """The checker lists the names of the table, and no others, where it meets an unknown one."""
    said = [d for d in check_with_base(tmp_path, text) if NOBODY in d.message]
    assert said, text
    assert set(re.findall(r"`(\w+)(?: = …| \{ … \}|\[…\])?`", said[0].help)) == known


def test_everything_is_explained() -> None:
    owners = [*KINDS.values(), *(section for kind in KINDS.values() for section in kind.sections.values())]
    settings = [each for owner in owners for each in owner.settings.items()]
    settings += [each for _, _, call in CALLS for each in call.arguments.items()]
    assert [name for name, setting in settings if not setting.doc] == []
    assert [name for name, call in kinds.ANYWHERE.items() if not call.doc] == []
    named = {w for _, s in settings for w in s.words if w not in s.calls}
    known = {*words.OTHER, *words.DTYPES, *words.VALUES, *words.SUB_BLOCKS}
    assert named - known - set(EXPORTS["gguf"].arguments["dtype"].words) - set(FAMILIES) == set()
