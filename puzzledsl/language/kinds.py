"""Declaration kinds: the purpose of each, and the contents of its head and body."""

from __future__ import annotations

from dataclasses import replace

from puzzledsl.language import calls
from puzzledsl.language.alternatives import ATTENTION, FFN, INITIALISERS
from puzzledsl.language.model import Kind, Section, Setting
from puzzledsl.language.words import DECLARATIONS, DTYPES, SUB_BLOCKS

MAX_DECODE_HEADS = 256
"""The most KV heads a GPU that a `gqa_decode` section names."""

_SEED = Setting("Makes the result repeatable.", default="`0`")
_DATA = Setting("The text to train on.", kinds=("data",), default="the program's only one")
_LR = Setting("The learning rate.", calls=calls.SCHEDULES, noun="learning rate schedule")


def _dtype(doc: str) -> Setting:
    return Setting(doc, words=tuple(DTYPES), noun="dtype")


PROFILE: dict[str, Setting] = {
    "memory": Setting("Memory of one GPU."),
    "bandwidth": Setting("Memory bandwidth of one GPU."),
    "link": Setting("Bandwidth between two GPUs, one direction."),
    "gpus": Setting(
        "GPUs that share the model (tensor parallel).", elsewhere=("tensor_parallel_size", "tp", "num_gpus")
    ),
    "expert_parallel": Setting(
        "Groups of GPUs that share out a mixture's experts; a group splits each of its own by channels."
    ),
    "dtype": _dtype("Number type of the stored weights."),
    "experts": _dtype("Number type of a mixture's stored experts; as `dtype` unless said."),
    "activations": _dtype("Number type of matrix products; as `dtype` unless said."),
    "kv_cache": replace(
        _dtype("Number type of stored keys and values."), elsewhere=("kv_dtype", "kv_cache_dtype")
    ),
    "embedding": _dtype("Number type of the stored embedding, norms and biases."),
    "head": _dtype("Number type of the head, stored and multiplied; as `embedding` unless said."),
    "overhead": Setting("Time a sub-block takes on top, each forward pass."),
    "link_latency": Setting("Time a step of an all-reduce takes on top."),
    "reserve": Setting("Memory kept for the runtime and activations."),
    "kv_fraction": Setting("Share of the free memory that the KV cache may take."),
    "kv_policy": Setting(
        "The sequences that the KV cache must hold: each at `full` length, or at its `mean` length.",
        words=("full", "mean"),
        noun="KV policy",
    ),
    "page": Setting("Tokens in a page of the KV cache."),
    "max_batch": Setting("Largest batch the runtime takes."),
    "price": Setting("Price of one GPU: `2.5 USD/h`. Gives its scenarios `cost_per_mtok`."),
    "power": Setting("Power of one GPU at work: `700W`. Gives its scenarios `joules_per_tok`."),
    "engine": Setting("The runtime whose figures the constants were fitted to."),
    "calibration": Setting("The measurements that the constants were fitted to."),
    "error": Setting("Mean relative error of the calibration."),
}
"""Settings of a hardware profile, in its body or as arguments of a modified profile."""

HARDWARE_FACTS: dict[str, str] = {
    name: PROFILE[name].doc
    for name in (
        *("memory", "bandwidth", "link", "reserve", "gpus", "expert_parallel"),
        *("dtype", "experts", "activations", "kv_cache", "embedding", "head"),
    )
}
"""Figures that expressions can read of a hardware: `h.memory`."""

_PROFILE_SECTIONS = {
    "peak": Section(
        "Dense FLOP/s by dtype.", {dtype: Setting(f"Dense FLOP/s in {dtype}.") for dtype in DTYPES}
    ),
    "efficiency": Section(
        "Shares of the peaks that are reached.",
        {
            "compute": Setting("Share of the peak that matrix products reach."),
            "experts": Setting("Share of the peak that a mixture's experts reach; as `compute` unless said."),
            "bandwidth": Setting("Share of the memory bandwidth that is reached."),
            "attention": Setting("Share of the peak that attention scores reach."),
            "link": Setting("Share of the link's bandwidth that is reached."),
        },
    ),
    "gqa_decode": Section(
        "Decode attention as measured, by KV heads a GPU.",
        {
            "tokens": Setting("Cached tokens of all sequences that the measured kernels read."),
            **{
                f"kv{n}": Setting(
                    f"Measured time of decode attention with {n} KV heads a GPU.", rare=n not in (1, 2, 4, 8)
                )
                for n in range(1, MAX_DECODE_HEADS + 1)
            },
        },
    ),
}

KINDS: dict[str, Kind] = {
    "parent": Kind(
        DECLARATIONS["parent"],
        'parent p = hf("id-or-directory")',
        "parents",
        value=Setting("", calls={"hf": calls.HF_PARENT, "shape": calls.SHAPE}, noun="parent"),
        has_body=False,
    ),
    "data": Kind(
        DECLARATIONS["data"],
        'data d = text("corpus/*.txt")',
        "data",
        value=Setting(
            "",
            calls={**calls.DATA_SOURCES, "mix": calls.MIX},
            kinds=("data",),
            noun="data source",
            sums=True,
        ),
        has_body=False,
    ),
    "hardware": Kind(
        DECLARATIONS["hardware"],
        "hardware h = h100_sxm(gpus: 1, dtype: fp8)",
        "hardware",
        preposition="of",
        targets=("hardware",),
        value=Setting(
            "",
            calls={"measured": calls.MEASURED, "table": calls.TABLE},
            kinds=("hardware",),
            noun="hardware",
        ),
        settings=PROFILE,
        sections=_PROFILE_SECTIONS,
    ),
    "scenario": Kind(
        DECLARATIONS["scenario"],
        "scenario s on h = batch(256, 128 -> 1024)",
        "scenarios",
        preposition="on",
        targets=("hardware",),
        value=Setting("", calls={"batch": calls.BATCH}, noun="scenario"),
        has_body=False,
    ),
    "space": Kind(
        DECLARATIONS["space"],
        "space w of p { attention = parent | noop }",
        "spaces",
        preposition="of",
        targets=("parent", "space"),
        value=Setting("", calls={"used_by": calls.USED_BY}, noun="sub-space"),
        settings={
            "attention": Setting(
                "The alternatives of an attention.", words=tuple(ATTENTION), calls=ATTENTION
            ),
            "ffn": Setting("The alternatives of an FFN.", words=tuple(FFN), calls=FFN),
        },
        sections={
            "init": Section(
                "Initial weights of alternatives.",
                {
                    name: Setting(
                        f"Initial weights of {name} alternatives.", words=words, noun=f"initialiser of {name}"
                    )
                    for name, words in INITIALISERS.items()
                },
            )
        },
        statements=("for", "let", "assert"),
        sees_space=True,
        edits_layers=True,
    ),
    "bld": Kind(
        DECLARATIONS["bld"],
        "bld b of w { train = attention + ffn, tokens = 1B }",
        "blds",
        preposition="of",
        targets=("space",),
        settings={
            "train": Setting(
                "`attention + ffn` is decoupled (A + F jobs a layer), `attention * ffn` coupled (A x F).",
                words=tuple(SUB_BLOCKS),
                noun="sub-block",
                default="`attention + ffn`",
                sums=True,
            ),
            "tokens": Setting("The budget of each job; `0` for initialisation alone."),
            "context": Setting("Tokens of a sequence.", default="`2048`"),
            "batch": Setting("Sequences in a step.", default="`1`"),
            "lr": Setting(_LR.doc, calls=_LR.calls, noun=_LR.noun, default="`cosine(1e-4, warmup: 1%)`"),
            "loss": Setting(
                "The loss that is minimised.",
                words=("normalized_mse", "mse", "cosine"),
                noun="loss",
                default="`normalized_mse`",
            ),
            "data": _DATA,
            "calibration": Setting("Tokens that initialisers see.", default="`16Ki`"),
            "heal": Setting(
                "Tokens that children of these pieces are healed on, or as many as the text has; `0` leaves "
                "them as assembled.",
                default="`24Ki`",
            ),
            "heal_data": Setting(
                "The text that children are healed on.", kinds=("data",), default="the same as for training"
            ),
            "seed": _SEED,
        },
    ),
    "score": Kind(
        DECLARATIONS["score"],
        "score kl of b = replace_one(kl_divergence, samples: 4Ki)",
        "scores",
        preposition="of",
        targets=("bld", "space"),
        value=Setting(
            "", calls={"replace_one": calls.REPLACE_ONE, "table": calls.TABLE}, noun="way to score"
        ),
        has_body=False,
    ),
    "search": Kind(
        DECLARATIONS["search"],
        "search s of w { minimize kl }",
        "searches",
        preposition="of",
        targets=("space", "search"),
        settings={
            "solver": Setting("The solver, or a baseline.", calls=calls.SOLVERS, noun="solver"),
            "refine": Setting(
                "Measures children whole around the solver's answer, and takes the best.",
                calls=calls.REFINES,
                noun="way to refine",
            ),
        },
        statements=("minimize", "maximize", "require", "prefer", "for", "solutions", "let", "assert"),
        sees_space=True,
    ),
    "frontier": Kind(
        DECLARATIONS["frontier"],
        "frontier f of s = sweep(chat.throughput, 1x..3x, points: 9)",
        "frontiers",
        preposition="of",
        targets=("search",),
        value=Setting("", calls={"sweep": calls.SWEEP}, noun="frontier"),
        has_body=False,
        sees_space=True,
    ),
    "uptrain": Kind(
        DECLARATIONS["uptrain"],
        "uptrain u of s { loss = 1 * kld + 1 * cosine, tokens = 1B }",
        "uptrains",
        preposition="of",
        targets=("search",),
        settings={
            "loss": Setting(
                "A weighted sum: `1 * kld + 1 * cosine + 0 * lm`.",
                words=("kld", "cosine", "lm"),
                noun="loss of uptraining",
                sums=True,
            ),
            "tokens": Setting("Tokens that it is trained on."),
            "context": Setting("Tokens of a sequence."),
            "batch": Setting("Sequences in a step; grows with the root of `tokens` unless said."),
            "micro_batch": Setting("Sequences in one forward; gradients add up to those of the step."),
            "lr": _LR,
            "data": _DATA,
            "seed": _SEED,
            "dtype": Setting(
                "Number type of matrix products.", words=("fp32", "bf16"), noun="dtype of uptraining"
            ),
            "ema": Setting("Share of the average of the weights that each step leaves; 0 keeps none."),
            "recompute": Setting(
                "Gradient checkpointing: less memory, a third more time.", default="`false`"
            ),
            "keep": Setting(
                "The weights that are written: the best of six evaluations on held-out text, or the last.",
                words=("best", "last"),
                noun="choice of weights",
            ),
        },
    ),
    "eval": Kind(
        DECLARATIONS["eval"],
        'eval e of u = tasks("hellaswag.jsonl")',
        "evals",
        preposition="of",
        targets=("uptrain", "search"),
        value=Setting("", calls={"tasks": calls.TASKS}, noun="evaluation"),
        settings={
            "items": Setting("Items of each task."),
            "data": Setting(
                "The text of perplexity and divergence; `heldout + code` measures on each.", kinds=("data",)
            ),
            "tokens": Setting("Tokens of each text."),
            "lm_eval": Setting('Tasks of the lm-evaluation-harness: `"arc_easy, hellaswag"`.'),
            "shots": Setting("Examples before each question of these."),
            "full": Setting(
                "Children that answer the tasks and are timed: `final + best`. Unless said, the child of `of` and the"
                " untrained one it came from; the others are compared by KL and perplexity.",
                kinds=("uptrain", "search"),
            ),
            "dtype": Setting(
                "Number type in which models answer the tasks: `bf16` is faster where the processor has it.",
                words=("fp32", "bf16"),
                noun="dtype of tasks",
            ),
            "prompts": Setting(
                'Prompts that parent and child answer side by side: `"p.jsonl"`, `"p.txt"`, `prompts("…", "…")` or `none`.',
                calls=calls.ASKED,
                noun="prompts",
                default="three from the text",
            ),
        },
    ),
    "export": Kind(
        DECLARATIONS["export"],
        'export x of u = hf("out/child", runtime: vllm)',
        "exports",
        preposition="of",
        targets=("uptrain", "search"),
        value=Setting("", calls=calls.EXPORTS, noun="export format"),
        has_body=False,
    ),
}
"""Kinds of declarations, in the order of a program: the first word of `KIND NAME …`."""
