"""Declaration kinds: the purpose of each, and the contents of its head and body."""

from __future__ import annotations

from puzzledsl.checker.declarations.hardware import KEYS, KV_POLICIES
from puzzledsl.checker.declarations.space import INITIALISERS
from puzzledsl.checker.declarations.training import LOSSES
from puzzledsl.checker.declarations.uptrain import GKD_LOSSES, UPTRAIN_DTYPES
from puzzledsl.checker.names.builtins import DTYPES
from puzzledsl.server.vocabulary import calls
from puzzledsl.server.vocabulary.types import Kind, Setting

_SEED = Setting("Makes the result repeatable.")
_DATA = Setting("What it is trained on; the program's only `data` unless said.", kinds=("data",))
_BOUNDED = "require", "prefer", "minimize", "maximize", "solutions", "for", "let", "assert"
_DTYPES = ("dtype", "activations", "kv_cache", "embedding", "head")
_PROFILE = {
    "memory": "Memory of one GPU.",
    "bandwidth": "Memory bandwidth of one GPU.",
    "link": "Bandwidth between two GPUs, one direction.",
    "gpus": "GPUs that share the model (tensor parallel).",
    "dtype": "What weights are stored in.",
    "activations": "What matrices are multiplied in; as `dtype` unless said.",
    "kv_cache": "What keys and values are stored in.",
    "embedding": "What the embedding is stored in.",
    "head": "What the head is stored and multiplied in; as `embedding` unless said.",
    "overhead": "Time a sub-block takes on top, each forward pass.",
    "link_latency": "Time a step of an all-reduce takes on top.",
    "reserve": "Memory kept for the runtime and activations.",
    "kv_fraction": "Share of the free memory that the KV cache may take.",
    "kv_policy": "What the KV cache must hold: every sequence at `full` length, or at its `mean` length.",
    "page": "Tokens in a page of the KV cache.",
    "max_batch": "Largest batch the runtime takes.",
    "engine": "The runtime whose figures the constants were fitted to.",
    "calibration": "What the constants were fitted to.",
    "error": "Mean relative error of the calibration.",
}


def _profile(key: str) -> Setting:
    words = DTYPES if key in _DTYPES else KV_POLICIES if key == "kv_policy" else ()
    return Setting(_PROFILE.get(key, ""), words=tuple(words))


PROFILE: dict[str, Setting] = {key: _profile(key) for key in KEYS}
"""Settings of a hardware profile, in its body or as arguments of a modified profile."""

KINDS: dict[str, Kind] = {
    "parent": Kind(
        "The model that is taken apart.",
        'parent p = hf("id-or-directory", shape: S)',
        value=Setting("", calls={"hf": calls.HF_PARENT, "shape": calls.SHAPE}),
        has_body=False,
    ),
    "data": Kind(
        "Text to train or score on.",
        'data d = text("corpus/*.txt")',
        value=Setting(
            "", calls={"text": calls.TEXT, "jsonl": calls.JSONL, "hf": calls.HF_DATA, "mix": calls.MIX}
        ),
        has_body=False,
    ),
    "hardware": Kind(
        "Where the child must run.",
        "hardware h = h100_sxm(gpus: 1, dtype: fp8)",
        preposition="of",
        targets=("hardware",),
        value=Setting("", calls={"measured": calls.MEASURED, "table": calls.TABLE}, kinds=("hardware",)),
        settings=PROFILE,
        sections={
            "peak": {dtype: Setting(f"Dense FLOP/s in {dtype}.") for dtype in DTYPES},
            "efficiency": {
                "compute": Setting("Share of the peak that matrix products reach."),
                "bandwidth": Setting("Share of the memory bandwidth that is reached."),
                "attention": Setting("Share of the peak that attention scores reach."),
                "link": Setting("Share of the link's bandwidth that is reached."),
            },
            "gqa_decode": {
                "tokens": Setting("Cached tokens of all sequences that the measured kernels read."),
                **{
                    f"kv{n}": Setting(f"Measured time of decode attention with {n} KV heads a GPU.")
                    for n in (1, 2, 4, 8)
                },
            },
        },
    ),
    "scenario": Kind(
        "A workload on a hardware; its metrics are `memory`, `latency`, `throughput` …",
        "scenario s on h = batch(256, 128 -> 1024)",
        preposition="on",
        targets=("hardware",),
        value=Setting("", calls={"batch": calls.BATCH}),
        has_body=False,
    ),
    "space": Kind(
        "What each layer may become.",
        "space w of p { attention = gqa(kv_heads: 4 | 2) | noop, ffn = mlp(width: 50%) | noop }",
        preposition="of",
        targets=("parent", "space"),
        value=Setting("", calls={"used_by": calls.USED_BY}),
        settings={
            "attention": Setting(
                "What an attention may become.", words=tuple(calls.ATTENTION), calls=calls.ATTENTION
            ),
            "ffn": Setting("What an FFN may become.", words=tuple(calls.FFN), calls=calls.FFN),
            "hidden": Setting("Widths of the residual stream, one for the whole child: `100% | 75%`."),
        },
        statements=("for", "let", "assert"),
        sections={
            "init": {
                name: Setting(f"How {name} alternatives start.", words=words)
                for name, words in INITIALISERS.items()
            }
        },
        sees_space=True,
    ),
    "bld": Kind(
        "Blockwise local distillation: makes the pieces, each alone against the parent's outputs.",
        "bld b of w { train = attention + ffn, tokens = 1B }",
        preposition="of",
        targets=("space",),
        settings={
            "train": Setting(
                "`attention + ffn` is decoupled (A + F jobs a layer), `attention * ffn` coupled (A x F).",
                words=("attention", "ffn"),
                sums=True,
            ),
            "tokens": Setting("The budget of each job; `0` for initialisation alone."),
            "context": Setting("Tokens of a sequence."),
            "batch": Setting("Sequences in a step."),
            "lr": Setting("The learning rate.", calls=calls.SCHEDULES),
            "loss": Setting("What is minimised.", words=LOSSES),
            "data": _DATA,
            "calibration": Setting("Tokens that initialisers see."),
            "heal": Setting(
                "Tokens that children of these pieces are healed on; `0` leaves them as assembled."
            ),
            "heal_data": Setting(
                "The text that children are healed on, where it is not `data`.", kinds=("data",)
            ),
            "seed": _SEED,
        },
    ),
    "score": Kind(
        "How much worse the parent gets with one replacement, for each alternative of each layer.",
        "score kl of b = replace_one(kl_divergence, samples: 4Ki)",
        preposition="of",
        targets=("bld", "space"),
        value=Setting("", calls={"replace_one": calls.REPLACE_ONE, "table": calls.TABLE}),
        has_body=False,
    ),
    "search": Kind(
        "Chooses one alternative a sub-block a layer.",
        "search s of w { minimize kl }",
        preposition="of",
        targets=("space", "search"),
        settings={
            "solver": Setting("Who solves it.", calls=calls.SOLVERS),
            "refine": Setting(
                "Measures children whole around the solver's answer, and takes the best.", calls=calls.REFINES
            ),
        },
        statements=_BOUNDED,
        sees_space=True,
    ),
    "frontier": Kind(
        "A search solved at several values of one bound.",
        "frontier f of s = sweep(chat.throughput, 1x..3x, points: 9)",
        preposition="of",
        targets=("search",),
        value=Setting("", calls={"sweep": calls.SWEEP}),
        has_body=False,
        sees_space=True,
    ),
    "uptrain": Kind(
        "Global knowledge distillation of a search's best child.",
        "uptrain u of s { loss = 1 * kld + 1 * cosine, tokens = 1B }",
        preposition="of",
        targets=("search",),
        settings={
            "loss": Setting("A weighted sum: `1 * kld + 1 * cosine + 0 * lm`.", words=GKD_LOSSES, sums=True),
            "tokens": Setting("How many tokens it is trained on."),
            "context": Setting("Tokens of a sequence."),
            "batch": Setting("Sequences in a step; grows with the root of `tokens` unless said."),
            "lr": Setting("The learning rate.", calls=calls.SCHEDULES),
            "data": _DATA,
            "seed": _SEED,
            "micro_batch": Setting("Sequences in one forward; gradients add up to those of the step."),
            "dtype": Setting("What matrix products are computed in.", words=UPTRAIN_DTYPES),
            "ema": Setting("How much of the average of the weights each step leaves; 0 keeps none."),
            "recompute": Setting("Gradient checkpointing: less memory, a third more time."),
        },
    ),
    "eval": Kind(
        "What is measured on the parent and the child.",
        'eval e of u = tasks("hellaswag.jsonl")',
        preposition="of",
        targets=("uptrain", "search"),
        value=Setting("", calls={"tasks": calls.TASKS}),
        settings={
            "items": Setting("How many items of each task."),
            "data": Setting(
                "What perplexity and divergence are measured on: `heldout + code` on each.", kinds=("data",)
            ),
            "tokens": Setting("How many tokens of each."),
            "lm_eval": Setting('Tasks of the lm-evaluation-harness: `"arc_easy, hellaswag"`.'),
            "shots": Setting("Examples before each question of these."),
            "dtype": Setting(
                "In which models answer the tasks: `bf16` is faster where the processor has it.",
                words=("fp32", "bf16"),
            ),
            "full": Setting(
                "Children that answer the tasks and are timed: `final + best`. Unless said, the child of `of` and the"
                " untrained one it came from; the others are compared by KL and perplexity.",
                kinds=("uptrain", "search"),
            ),
        },
    ),
    "export": Kind(
        "A checkpoint for a runtime.",
        'export x of u = hf("out/child", runtime: vllm)',
        preposition="of",
        targets=("uptrain", "search"),
        value=Setting("", calls=calls.EXPORTS),
        has_body=False,
    ),
}
