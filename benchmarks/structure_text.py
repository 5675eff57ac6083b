"""Searches as program text with the files that they name, and an evaluation of children that shares no code with the search.

Scores have heavy tails, as measured ones do (synthetic.py). Costs are a shipped profile's, every layer alike, or those of a
table in which each layer was measured with noise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import product
from operator import add
from typing import Any

import numpy as np

Rng = np.random.Generator
SCORE_UNIT = 10**9  # scores are written with nine decimals and added up as whole numbers
# hidden, heads, FFN width of a Llama of up to so many layers
SHAPES = {16: (2048, 32, 8192), 32: (4096, 32, 14336), 80: (8192, 64, 28672)}
KV_HEADS, HEAD_DIM, VOCAB = 8, 128, 128256
EXPERTS, TOP_K, EXPERT_WIDTH = 64, 8, 1024  # of the mixture
# What a trained piece loses, of what the layer loses when the sub-block is removed (normalised MSE, measured).
KV_LOSS = {8: 0.0, 4: 0.16, 2: 0.25, 1: 0.34}
LINEAR_LOSS = 0.55
SCENARIOS = {"chat": (64, 128, 1024), "rag": (32, 2048, 128)}  # batch, prompt, output
NS_PER_BYTE, NS_PER_FLOP, OVERHEAD_NS = 1 / 3082, 1 / 1.1e6, 60_000  # of the measured costs: an H100 in FP8
NOISE = 0.02
ENDS = [*product(("parent", "parent@q8_0"), ("parent", "parent@q8_0", "parent@q4_0"))]  # embedding and head
END_LOSS = {"parent": 0.0, "parent@q8_0": 0.004, "parent@q4_0": 0.08}  # of KL: measured heads, rounded


@dataclass(frozen=True, slots=True)
class Menu:
    """The alternatives of every layer: KV heads and shares of the parent's width, then words. `window`: a second set with it."""

    kv_heads: tuple[int, ...]
    eighths: tuple[int, ...]
    words: tuple[str, ...] = ("noop",)
    window: int = 0
    mixture: bool = False


MENUS = (
    Menu((8, 4, 2, 1), (8, 6, 4, 2)),
    Menu((8, 4, 1), (8, 4, 2), ("linear", "noop")),
    Menu((8, 4, 2, 1), (8, 7, 6, 5, 4, 2, 1), ("linear", "noop")),
)
SMALL = Menu((8, 2), (8, 4))  # nine pairs a layer: all children of five layers can be tried
WINDOWS = Menu((8, 2), (8,), window=1024)
MIXTURE = Menu((8, 2), (8, 4), mixture=True)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a child, with the figures of docs/language.md. `costs[scenario, batch]`: weights, cache, prefill and
    decode ns, FLOP, FLOP of a step; `score` in units of 1e-9."""

    index: int
    attention: str
    ffn: str
    heads: int
    kv_heads: int
    window: int
    width: int
    experts: int
    top_k: int
    attention_params: int
    ffn_params: int
    active_params: int
    score: int
    costs: Mapping[tuple[str, int], tuple[int, ...]]

    @property
    def params(self) -> int:
        """Parameters of both sub-blocks."""
        return self.attention_params + self.ffn_params

    @property
    def dropped(self) -> bool:
        """Neither sub-block is left."""
        return self.attention == self.ffn == "noop"


@dataclass(frozen=True)
class World:
    """A parent, a space, scores and costs: all of a program but its search."""

    layers: int
    seed: int
    menu: Menu
    runs: bool = False  # runs of two to four dropped layers have scores
    measured: bool = False  # costs are a table
    ends: bool = False  # embedding and head are choices

    @property
    def shape(self) -> tuple[int, int, int]:
        """Hidden size, heads, FFN width."""
        return SHAPES[min((n for n in SHAPES if n >= self.layers), default=80)]

    @cached_property
    def attentions(self) -> dict[str, tuple[int, int]]:
        """Name -> KV heads and window."""
        found = {"parent" if v == KV_HEADS else f"gqa{v}": (v, 0) for v in self.menu.kv_heads}
        if self.menu.window:
            found |= {f"gqa{v}w{self.menu.window}": (v, self.menu.window) for v in self.menu.kv_heads}
        return found | dict.fromkeys(self.menu.words, (0, 0))

    @cached_property
    def ffns(self) -> dict[str, tuple[int, int]]:
        """Name -> width over all experts, and experts."""
        if self.menu.mixture:
            kept = [EXPERTS * e // 8 for e in self.menu.eighths]
            names = ["parent" if e == EXPERTS else f"moe{e}k{TOP_K}w{EXPERT_WIDTH}" for e in kept]
            sizes = [(EXPERT_WIDTH * e, e) for e in kept]
        else:
            widths = [self.shape[2] * e // 8 for e in self.menu.eighths]
            names = ["parent" if w == self.shape[2] else f"mlp{w}" for w in widths]
            sizes = [(w, 0) for w in widths]
        return dict(zip(names, sizes, strict=True)) | dict.fromkeys(self.menu.words, (0, 0))

    @property
    def text(self) -> str:
        """Parent, space and score."""
        hidden, heads, width = self.shape
        family = "qwen3_moe" if self.menu.mixture else "llama"
        inside = (
            f"experts: {EXPERTS}, top_k: {TOP_K}, expert_width: {EXPERT_WIDTH}"
            if self.menu.mixture
            else f"intermediate: {width}"
        )
        return (
            f"parent p = shape(family: {family}, layers: {self.layers}, hidden: {hidden}, heads: {heads},\n"
            f"  kv_heads: {KV_HEADS}, head_dim: {HEAD_DIM}, vocab: {VOCAB}, {inside})\n"
            f"space w of p {{\n  attention = {' | '.join(map(_written, self.attentions))}\n"
            f"  ffn = {' | '.join(map(_written, self.ffns))}\n{ENDS_TEXT * self.ends}}}\n"
            'score kl of w = table("scores.csv")\n'
        )

    def files(self) -> dict[str, str]:
        """The tables that the text names."""
        no_end = ",," * self.ends
        lines = [f"layer,attention,ffn,{'embedding,head,' * self.ends}kl"]
        lines += [f"{i},{a},{f}{no_end},{s / SCORE_UNIT:.9f}" for (i, a, f), s in self.scores.items()]
        lines += [f"{i}-{j},noop,noop{no_end},{s / SCORE_UNIT:.9f}" for (i, j), s in self.run_scores.items()]
        lines += [
            f",,,{e},{h},{s / SCORE_UNIT:.9f}" for (e, h), s in self.end_scores.items() if not (e and h)
        ]
        tables = {"scores.csv": "\n".join(lines) + "\n"}
        return tables | ({"costs.csv": self._costs()} if self.measured else {})

    @cached_property
    def scores(self) -> dict[tuple[int, str, str], int]:
        """Layer, attention, FFN -> score. The first and last layers matter most; a pair is worse than its two halves."""
        rng = np.random.default_rng([self.seed, self.layers, 1])
        found = {}
        for i in range(self.layers):
            edge = 2.0 * np.exp(-i / 2) + 1.0 * np.exp(-(self.layers - 1 - i) / 2)
            a = np.exp(rng.normal(-4.5, 1.3) + edge) * self._spread([*self.attentions], rng)
            f = np.exp(rng.normal(-3.0, 1.3) + edge) * self._spread([*self.ffns], rng)
            both = (
                a[:, None] + f[None, :] + (self.seed % 3 == 2) * rng.uniform(0, 0.3) * np.sqrt(np.outer(a, f))
            )
            for (j, x), (k, y) in product(enumerate(self.attentions), enumerate(self.ffns)):
                found[i, x, y] = round(float(both[j, k]) * SCORE_UNIT)
        return found

    def _spread(self, names: Sequence[str], rng: Rng) -> Any:
        """Losses of the alternatives of a sub-block, bent and blurred as each layer's own curve is."""
        curve = np.array([self._loss(name) for name in names])
        return curve ** rng.uniform(0.7, 1.5) * np.exp(rng.normal(0, 0.1, len(names)))

    def _loss(self, name: str) -> float:
        if name in ("parent", "noop", "linear"):
            return {"parent": 0.0, "noop": 1.0, "linear": LINEAR_LOSS}[name]
        if heads := re.match(r"gqa(\d+)(w(\d+))?", name):
            return KV_LOSS[int(heads[1])] + (20 / int(heads[3]) if heads[3] else 0.0)
        width, experts = self.ffns[name]
        share = experts / EXPERTS if experts else width / self.shape[2]
        return float(np.interp(share, [0.0, 0.25, 0.5, 0.75, 0.87, 1.0], [1.0, 0.45, 0.2, 0.04, 0.005, 0.0]))

    @cached_property
    def run_scores(self) -> dict[tuple[int, int], int]:
        """First and last layer of a run -> score of dropping it: more or less than the sum of its layers."""
        if not self.runs:
            return {}
        rng = np.random.default_rng([self.seed, self.layers, 2])
        spans = [(i, i + k) for i in range(self.layers) for k in (1, 2, 3) if i + k < self.layers]
        alone = {s: sum(self.scores[i, "noop", "noop"] for i in range(s[0], s[1] + 1)) for s in spans}
        return {s: round(total * rng.uniform(0.6, 1.2)) for s, total in alone.items()}

    @cached_property
    def end_scores(self) -> dict[tuple[str, str], int]:
        """Embedding, head -> score: of each alone, the other empty, and of both, their sum."""
        if not self.ends:
            return {ENDS[0]: 0}
        rng = np.random.default_rng([self.seed, self.layers, 4])
        alone = {
            end: round(END_LOSS[end[0] or end[1]] * rng.uniform(0.5, 2) * SCORE_UNIT)
            for end in dict.fromkeys(end for e, h in ENDS for end in ((e, ""), ("", h)))
        }
        return alone | {(e, h): alone[e, ""] + alone["", h] for e, h in ENDS}

    def _costs(self) -> str:
        """Costs as measured: bytes and ns of each sub-block of each layer."""
        rng = np.random.default_rng([self.seed, self.layers, 3])
        names = [
            f"{s}.{m}"
            for s in SCENARIOS
            for m in ("weights[bytes]", "kv_cache[bytes]", "ttft[ns]", "tpot[ns]")
        ]
        lines = [",".join(["layer,attention,ffn,batch,params", *names])]
        fixed = 2 * VOCAB * self.shape[0]
        parts = [(i, a, "") for i in range(self.layers) for a in self.attentions]
        parts += [(i, "", f) for i in range(self.layers) for f in self.ffns]
        for place, (batch, prompt, output) in enumerate(SCENARIOS.values()):
            before, after = ",,,," * place, ",,,," * (len(SCENARIOS) - 1 - place)
            lines.append(f",,,{batch},{fixed}{before},{fixed * 2},0,{9 * 10**6},{3 * 10**5}{after}")
            for i, a, f in parts:
                params = self.params(a) if a else self.params(f, ffn=True)
                cache = batch * (prompt + output) * 2 * self.attentions[a][0] * HEAD_DIM if a else 0
                noise = np.exp(rng.normal(0, NOISE, 2))
                step = params and noise[0] * (OVERHEAD_NS + NS_PER_BYTE * (params + cache / 2))
                first = params and noise[1] * (OVERHEAD_NS + NS_PER_FLOP * 2 * params * batch * prompt)
                lines.append(
                    f"{i},{a},{f},{batch},{params}{before},{params},{cache},{first:.0f},{step:.0f}{after}"
                )
        return "\n".join(lines) + "\n"

    def params(self, name: str, *, ffn: bool = False, active: bool = False) -> int:
        """Parameters of an alternative with its norm; those that a token uses."""
        hidden, heads, _ = self.shape
        if name in ("noop", "linear"):
            return hidden * (hidden + 1) if name == "linear" else 0
        if not ffn:
            norms = 2 * HEAD_DIM * self.menu.mixture  # of queries and keys
            return 2 * hidden * HEAD_DIM * (heads + self.attentions[name][0]) + hidden + norms
        width, experts = self.ffns[name]
        used = width * min(TOP_K, experts) // experts if active and experts else width
        return 3 * hidden * used + hidden * experts + hidden

    def choices(self, costs: Mapping[str, Any]) -> list[list[Layer]]:
        """The alternatives of each layer, with the costs of `build/costs/w.json`."""
        return [
            [self._layer(i, a, f, costs) for a in self.attentions for f in self.ffns]
            for i in range(self.layers)
        ]

    def _layer(self, i: int, a: str, f: str, costs: Mapping[str, Any]) -> Layer:
        kv, window = self.attentions[a]
        width, experts = self.ffns[f]
        own, other = self.params(a), self.params(f, ffn=True)
        at = {
            (name, each["batch"]): tuple(map(add, _sizes(each["attention"][i][a]), _sizes(each["ffn"][i][f])))
            for name, batches in costs["scenarios"].items()
            for each in batches
        }
        return Layer(
            i, a, f, self.shape[1] if kv else 0, kv, window, width, experts, min(TOP_K, experts), own, other,
            own + self.params(f, ffn=True, active=True), self.scores[i, a, f], at,
        )  # fmt: skip


def _written(name: str) -> str:
    """An alternative as a program writes it."""
    if found := re.fullmatch(r"gqa(\d+)(?:w(\d+))?|mlp(\d+)|moe(\d+)k\d+w\d+|(\w+)", name):
        kv, window, width, experts, word = found.groups()
        if kv:
            return f"gqa(kv_heads: {kv}" + (f", window: {window})" if window else ")")
        return f"mlp(width: {width})" if width else f"moe(experts: {experts})" if experts else word
    raise ValueError(name)


def _sizes(cost: Mapping[str, int]) -> tuple[int, ...]:
    names = ("weights_bytes", "kv_cache_bytes", "prefill_ns", "decode_ns", "prefill_flop", "decode_flop")
    return tuple(cost[name] for name in names)


ENDS_TEXT = "  embedding = parent(dtype: full | q8_0), head = parent(dtype: full | q8_0 | q4_0)\n"


@dataclass(frozen=True)
class Tables:
    """A world with its cost table, the JSON of `build/costs/w.json`."""

    world: World
    costs: Mapping[str, Any]

    @cached_property
    def choices(self) -> list[list[Layer]]:
        """The alternatives of each layer."""
        return self.world.choices(self.costs)

    def child(self, names: Sequence[tuple[str, str]], batches: Mapping[str, int] | None = None) -> Child:
        """The child with these attentions and FFNs, and its embedding and head behind them where they are choices, at the first
        batch of each scenario unless given."""
        blocks, ends = names[: self.world.layers], names[self.world.layers :]
        of = [
            next(x for x in each if (x.attention, x.ffn) == name)
            for each, name in zip(self.choices, blocks, strict=True)
        ]
        return Child(self, of, batches or self.first_batches, *ends)

    @cached_property
    def batches(self) -> list[dict[str, int]]:
        """All choices of a batch for each scenario."""
        scenarios = self.costs["scenarios"]
        each = product(*([b["batch"] for b in batches] for batches in scenarios.values()))
        return [dict(zip(scenarios, chosen, strict=True)) for chosen in each]

    @property
    def first_batches(self) -> dict[str, int]:
        """The first batch of each scenario."""
        return self.batches[0]

    def parent(self, batches: Mapping[str, int]) -> Child:
        """The parent."""
        return Child(
            self,
            [next(x for x in each if x.attention == x.ffn == "parent") for each in self.choices],
            batches,
        )


@dataclass(frozen=True)
class Child:
    """A child and its metrics, from the tables. `child[3].kv_heads` is a figure of layer 3."""

    tables: Tables
    layers: Sequence[Layer]
    batches: Mapping[str, int]
    ends: tuple[str, str] = ENDS[0]  # embedding and head

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @cached_property
    def kl(self) -> Fraction:
        """The score: each maximal run of dropped layers counts as it was scored."""
        world, i = self.tables.world, 0
        runs, total = world.run_scores, world.end_scores[self.ends]
        while i < len(self.layers):
            dropped = (
                next((j for j in range(i, len(self.layers)) if not self.layers[j].dropped), len(self.layers))
                - i
            )
            scored = next((k for k in (4, 3, 2) if k <= dropped and runs), 1)
            total += runs[i, i + scored - 1] if scored > 1 else self.layers[i].score
            i += scored
        return Fraction(total, SCORE_UNIT)

    @cached_property
    def params(self) -> int:
        """Parameters, embedding and head included."""
        return int(self.tables.costs["params_fixed"]) + sum(layer.params for layer in self.layers)

    @cached_property
    def parent(self) -> Child:
        """The parent at the same batches."""
        return self.tables.parent(self.batches)

    def share(self, scenario: str, name: str) -> Fraction:
        """A metric, times the parent's at the same batches."""
        return self.metric(scenario, name) / self.parent.metric(scenario, name)

    def metric(self, scenario: str, name: str) -> Fraction:
        """A metric of docs/language.md in base units."""
        batch = self.batches[scenario]
        head = next(each for each in self.tables.costs["scenarios"][scenario] if each["batch"] == batch)
        fixed = head["ends"]["/".join(self.ends)] if self.tables.world.ends else head["fixed"]
        parts = [_sizes(fixed), *(layer.costs[scenario, batch] for layer in self.layers)]
        weights, cache, first, step, flop, step_flop = (sum(column) for column in zip(*parts, strict=True))
        output = head["output"]
        latency = Fraction(first + output * step, 10**9)
        simple: dict[str, Callable[[], Fraction]] = {
            "memory": lambda: Fraction(head["reserve_bytes"] + weights + cache),
            "weights": lambda: Fraction(weights),
            "kv_cache": lambda: Fraction(cache),
            "latency": lambda: latency,
            "ttft": lambda: Fraction(first, 10**9),
            "tpot": lambda: Fraction(step, 10**9),
            "throughput": lambda: batch * output / latency,
            "flops": lambda: Fraction(flop + output * step_flop),
            "cost_per_mtok": lambda: 10**6 * Fraction(head["usd_per_s"]) * latency / (batch * output),
            "joules_per_tok": lambda: Fraction(head["watts"]) * latency / (batch * output),
        }
        return simple[name]()
