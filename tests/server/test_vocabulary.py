"""What the editor says of the language is what the checker takes: the same names, no more and no fewer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from puzzledsl.base.diagnostics import Diagnostic
from puzzledsl.checker import parameters
from puzzledsl.checker.check import check
from puzzledsl.checker.names import builtins
from puzzledsl.ir import facts
from puzzledsl.ir.metrics import METRICS
from puzzledsl.server.vocabulary import calls, words
from puzzledsl.server.vocabulary.kinds import KINDS
from puzzledsl.server.vocabulary.types import Call, Setting
from puzzledsl.syntax.kinds import KEYWORDS
from puzzledsl.syntax.kinds import KINDS as KIND_NAMES

BASE = """\
use "std/hardware.pzl" (h100_sxm)
parent p = shape(family: llama, layers: 4, hidden: 64, heads: 8, kv_heads: 4, head_dim: 8, intermediate: 192, vocab: 256)
hardware h = h100_sxm(gpus: 1)
scenario s on h = batch(1, 1 -> 1)
space w of p { attention = parent | noop }
data d = text("x.txt")
bld b of w { tokens = 1k }
score kl of b = replace_one(kl_divergence)
search q of w { minimize kl }
uptrain u of q { tokens = 1k }
"""
NOBODY = "zzzzzzzzzzzzzzzz"
TARGET = {"parent": "p", "space": "w", "hardware": "h", "bld": "b", "search": "q", "uptrain": "u"}


def diagnostics(folder: Path, text: str) -> list[Diagnostic]:
    path = folder / "program.pzl"
    path.write_text(BASE + text, "utf-8")
    return list(check(path, {}).diagnostics)


def offered(folder: Path, text: str) -> set[str]:
    """The names that the checker lists when it meets one it does not know."""
    found = [d for d in diagnostics(folder, text) if NOBODY in d.message]
    assert found, text
    return set(re.findall(r"`(\w+)(?: = …| \{ … \}|\[…\])?`", found[0].help))


def head(kind: str) -> str:
    known = KINDS[kind]
    target = (
        f" {known.preposition} {TARGET[known.targets[0]]}" if known.targets and kind != "hardware" else ""
    )
    return f"{kind} x{target}"


def test_every_kind_and_keyword_is_explained() -> None:
    assert set(KINDS) == set(KIND_NAMES)
    assert set(words.KEYWORDS) == KEYWORDS


def test_functions_metrics_facts_and_types_are_the_checkers() -> None:
    assert set(words.FUNCTIONS) == set(builtins.FUNCTIONS)
    assert set(words.METRICS) == set(METRICS)
    assert set(words.PARENT_FACTS) == set(facts.PARENT_FACTS)
    assert set(words.TYPES) == set(parameters.TYPES)
    assert set(words.DTYPES) == set(builtins.DTYPES)
    assert {k: tuple(v) for k, v in words.SUB_BLOCK_FACTS.items()} == facts.ATTRIBUTES
    assert {"attention": tuple(calls.ATTENTION), "ffn": tuple(calls.FFN)} == builtins.ALTERNATIVES
    assert set(calls.ANYWHERE) | {"hf"} == builtins.CONSTRUCTORS


def test_what_a_layer_has_is_the_checkers(tmp_path: Path) -> None:
    text = f"search x of w {{ minimize kl, require layers[1].{NOBODY} == 1 }}\n"
    assert offered(tmp_path, text) == set(words.LAYER_FACTS)


@pytest.mark.parametrize("thing", ["s", "h"])
def test_what_stands_behind_a_dot_is_the_checkers(thing: str, tmp_path: Path) -> None:
    known = {"s": {*words.METRICS, *words.SCENARIO_FACTS}, "h": set(words.HARDWARE_FACTS)}[thing]
    assert offered(tmp_path, f"let x = {thing}.{NOBODY}\n") == known


@pytest.mark.parametrize("kind", [k for k, v in KINDS.items() if v.has_body])
def test_settings_of_a_body_are_the_checkers(kind: str, tmp_path: Path) -> None:
    listed = offered(tmp_path, f"{head(kind)} {{ {NOBODY} = 1 }}\n")
    known = {*KINDS[kind].settings, *KINDS[kind].sections}
    if kind == "search":
        known |= set(KINDS[kind].statements) - {"let", "assert"}
    if kind == "space":
        known |= {"layers"}
    assert listed - {"require", "prefer"} == known - {"require", "prefer"}


@pytest.mark.parametrize(
    ("kind", "section"), [(k, s) for k, v in KINDS.items() for s in v.sections if s != "gqa_decode"]
)
def test_settings_of_a_section_are_the_checkers(kind: str, section: str, tmp_path: Path) -> None:
    text = f"{head(kind)} {{ {section} {{ {NOBODY} = 1 }} }}\n"
    assert offered(tmp_path, text) == set(KINDS[kind].sections[section])


CALLS = [
    (f"{head(k)} = {n}({{}})\n", n, c) for k, v in KINDS.items() if v.value for n, c in v.value.calls.items()
]
CALLS = [(text.replace("of p = used_by", "of w = used_by"), name, call) for text, name, call in CALLS]
CALLS += [(f"space x of p {{{{ attention = {n}({{}}) }}}}\n", n, c) for n, c in calls.ATTENTION.items()]
CALLS += [(f"space x of p {{{{ ffn = {n}({{}}) }}}}\n", n, c) for n, c in calls.FFN.items()]
CALLS += [
    (f"search x of w {{{{ minimize kl, solver = {n}({{}}) }}}}\n", n, c) for n, c in calls.SOLVERS.items()
]
CALLS += [
    (f"search x of w {{{{ minimize kl, refine = {n}({{}}) }}}}\n", n, c) for n, c in calls.REFINES.items()
]
CALLS += [(f"bld x of w {{{{ tokens = 1, lr = {n}({{}}) }}}}\n", n, c) for n, c in calls.SCHEDULES.items()]
CALLS += [(f"score x of b = replace_one({n}({{}}))\n", n, c) for n, c in calls.SCORE_METRICS.items()]


@pytest.mark.parametrize(("text", "name", "call"), CALLS, ids=lambda v: v if isinstance(v, str) else "")
def test_arguments_of_a_call_are_the_checkers(text: str, name: str, call: Call, tmp_path: Path) -> None:
    listed = offered(tmp_path, text.format(f"{NOBODY}: 1"))
    assert listed == set(call.arguments)


def test_a_profiles_arguments_are_its_settings(tmp_path: Path) -> None:
    listed = offered(tmp_path, f"hardware x = h100_sxm({NOBODY}: 1)\n")
    assert listed == set(KINDS["hardware"].settings)


def _positions(call: Call) -> int:
    return 9 if call.rest else call.positional


@pytest.mark.parametrize(("text", "name", "call"), CALLS, ids=lambda v: v if isinstance(v, str) else "")
def test_a_call_takes_so_many_arguments_without_names(
    text: str, name: str, call: Call, tmp_path: Path
) -> None:
    def too_many(count: int) -> bool:
        found = diagnostics(tmp_path, text.format(", ".join(["d"] * count)))
        return any(type(d).__name__ == "TooManyArguments" for d in found)

    assert not too_many(min(_positions(call), 3))
    assert too_many(_positions(call) + 1) or call.rest


WORDS = [
    (f"{head(k)} {{ {n} = {NOBODY} }}\n", s)
    for k, v in KINDS.items()
    for n, s in v.settings.items()
    if s.words and not s.sums and not s.calls
]
WORDS += [
    (text.format(f"{n}: {NOBODY}"), s)
    for text, _, c in CALLS
    for n, s in c.arguments.items()
    if s.words and set(s.words) != {"true", "false"} and n not in ("window", "batch")
]


@pytest.mark.parametrize(("text", "setting"), WORDS, ids=lambda v: v if isinstance(v, str) else "")
def test_closed_lists_of_words_are_the_checkers(text: str, setting: Setting, tmp_path: Path) -> None:
    assert offered(tmp_path, text) == set(setting.words)


def _settings() -> list[tuple[str, Setting]]:
    found = [(f"{k}.{n}", s) for k, v in KINDS.items() for n, s in v.settings.items()]
    found += [
        (f"{k}.{p}.{n}", s) for k, v in KINDS.items() for p, t in v.sections.items() for n, s in t.items()
    ]
    return found + [(f"{name}.{n}", s) for _, name, c in CALLS for n, s in c.arguments.items()]


def test_everything_is_explained() -> None:
    assert [name for name, setting in _settings() if not setting.doc] == []
    assert [name for name, call in calls.ANYWHERE.items() if not call.doc] == []
    named = {w for _, s in _settings() for w in s.words if w not in s.calls}
    known = {*words.OTHER, *words.DTYPES, *words.VALUES, *words.SUB_BLOCKS}
    assert (
        named
        - known
        - set(calls.EXPORTS["gguf"].arguments["dtype"].words)
        - {"llama", "mistral", "qwen2", "qwen3"}
        == set()
    )
