"""Declaration kinds: the purpose of each, and the contents of its head and body."""

from __future__ import annotations

from dataclasses import replace

from puzzledsl.base.settings import Kind, Section, Setting, settings_of
from puzzledsl.ir import nodes
from puzzledsl.ir.hardware_nodes import PROFILE_SECTIONS
from puzzledsl.ir.search_nodes import SWEEP
from puzzledsl.ir.stage_nodes import EXPORTS
from puzzledsl.language import calls
from puzzledsl.language.calls import INITIALISERS, SITES
from puzzledsl.language.words import DECLARATIONS

PROFILE = settings_of(nodes.RooflineHardware)
"""Settings of a hardware profile, in its body or as arguments of a modified profile."""
HARDWARE_FACTS: dict[str, str] = {
    name: PROFILE[name].doc
    for name in (
        *("memory", "bandwidth", "link", "reserve", "gpus", "expert_parallel"),
        *("dtype", "experts", "activations", "kv_cache", "embedding", "head"),
    )
}
"""Figures that expressions can read of a hardware: `h.memory`."""
_INIT = {
    name: Setting(f"Initial weights of {name} alternatives.", words=words, noun=f"initialiser of {name}")
    for name, words in INITIALISERS.items()
}
_KINDS = (
    Kind('parent p = hf("id-or-directory")', value=Setting("", calls=calls.PARENTS, noun="parent")),
    Kind(
        'data d = text("corpus/*.txt")',
        plural="data",
        value=Setting(
            "", calls={**calls.DATA_SOURCES, "mix": calls.MIX}, kinds=("data",), noun="data source", sums=True
        ),
    ),
    Kind(
        "hardware h = h100_sxm(gpus: 1, dtype: fp8)",
        plural="hardware",
        targets=("hardware",),
        value=Setting("", calls=calls.MEASURED, kinds=("hardware",), noun="hardware"),
        settings=PROFILE,
        sections=PROFILE_SECTIONS,
    ),
    Kind(
        "scenario s on h = batch(256, 128 -> 1024)",
        targets=("hardware",),
        of="hardware",
        value=Setting("", calls={"batch": calls.BATCH}, noun="scenario"),
    ),
    Kind(
        "space w of p { attention = parent | noop }",
        targets=("parent", "space"),
        value=Setting("", calls={"used_by": calls.USED_BY}, noun="sub-space"),
        settings=SITES,
        sections={"init": Section("Initial weights of alternatives.", _INIT)},
        statements=("for", "let", "assert"),
        sees_space=True,
        edits_layers=True,
    ),
    Kind(
        "bld b of w { train = attention + ffn, tokens = 1B }",
        targets=("space",),
        of="space",
        settings=settings_of(nodes.Bld),
    ),
    Kind(
        "score kl of b = replace_one(kl_divergence, samples: 4Ki)",
        targets=("bld", "space"),
        value=Setting("", calls=calls.SCORES, noun="way to score"),
    ),
    Kind(
        'judge taste of p = tasks("hellaswag.jsonl") { data = d }',
        "judges",
        targets=("parent",),
        of="parent",
        value=Setting("", calls={"tasks": calls.TASKS}, noun="questions"),
        settings=settings_of(nodes.Judge),
    ),
    Kind(
        "search s of w { minimize kl }",
        plural="searches",
        targets=("space", "search"),
        settings=settings_of(nodes.Search),
        statements=("minimize", "maximize", "require", "prefer", "for", "solutions", "let", "assert"),
        sees_space=True,
    ),
    Kind(
        "frontier f of s = sweep(chat.throughput, 1x..3x, points: 9)",
        targets=("search",),
        of="search",
        value=Setting("", calls={"sweep": SWEEP}, noun="frontier"),
        sees_space=True,
    ),
    Kind(
        "uptrain u of s { loss = 1 * kld + 1 * cosine, tokens = 1B }",
        targets=("search",),
        of="search",
        settings=settings_of(nodes.Uptrain),
    ),
    Kind(
        'eval e of u = tasks("hellaswag.jsonl")',
        targets=("uptrain", "search"),
        of="of",
        value=Setting("", calls={"tasks": calls.TASKS}, noun="evaluation"),
        settings=settings_of(nodes.Eval),
    ),
    Kind(
        'export x of u = hf("out/child", runtime: vllm)',
        targets=("uptrain", "search"),
        of="of",
        value=Setting("", calls=EXPORTS, noun="export format"),
    ),
)
KINDS = {
    word: replace(kind, doc=DECLARATIONS[word], plural=kind.plural or f"{word}s")
    for kind in _KINDS
    if (word := kind.form.split()[0])
}
"""Kinds of declarations, in the order of a program: the first word of `KIND NAME …`."""
