"""Constructor words of the language with their arguments, for completion and hover."""

from __future__ import annotations

from puzzledsl.checker.declarations.hardware import DEVICES
from puzzledsl.checker.declarations.results import GGUF_DTYPES, RUNTIMES, TENSOR_DTYPES
from puzzledsl.checker.spaces.shapes import FAMILIES
from puzzledsl.server.vocabulary.types import Call, Setting

PARENT = Call("The parent's own sub-block, untouched: no job, score 0.")
LINEAR = Call("One hidden x hidden matrix in place of the sub-block.")
NOOP = Call("The sub-block is left out: it adds nothing to the residual stream.")
GQA = Call(
    "Grouped-query attention with fewer key/value heads, or a window.",
    {
        "kv_heads": Setting(
            "Key/value heads: divisors of the parent's. `8 | 4 | 2 | 1` is one alternative each."
        ),
        "window": Setting("Tokens attended to at most: `full`, or `8Ki`.", words=("full",)),
        "sinks": Setting(
            "How many of a window's tokens are the sequence's first: 0 unless said; 4 does well."
        ),
    },
    positional=1,
)
MLP = Call(
    "The parent's FFN with fewer intermediate channels.",
    {
        "width": Setting("Channels, or a share of the parent's: `100% | 75% | 50%`."),
        "round": Setting("Widths are rounded to the nearest multiple of this."),
    },
    positional=1,
)
MOE = Call(
    "A mixture of experts made of the parent's channels.",
    {
        "experts": Setting("How many experts."),
        "top_k": Setting("Experts that are active for a token."),
        "width": Setting("Channels of an expert; without it the parent's are shared out."),
        "round": Setting("Widths are rounded to the nearest multiple of this."),
    },
    positional=2,
)
ATTENTION = {"parent": PARENT, "gqa": GQA, "linear": LINEAR, "noop": NOOP}
FFN = {"parent": PARENT, "mlp": MLP, "moe": MOE, "linear": LINEAR, "noop": NOOP}

SHAPE = Call(
    "A parent's architecture, without a checkpoint.",
    {
        "family": Setting("Whose implementation it has.", words=FAMILIES),
        "layers": Setting("Layers."),
        "hidden": Setting("Width of the residual stream."),
        "heads": Setting("Query heads."),
        "kv_heads": Setting("Key/value heads; as many as `heads` unless said."),
        "head_dim": Setting("Channels of a head: its own number, never hidden / heads."),
        "intermediate": Setting("Channels of an FFN."),
        "vocab": Setting("Rows of the embedding."),
        "tied": Setting("Whether embedding and head share their weights.", words=("true", "false")),
        "attention_bias": Setting("Whether q, k and v have biases.", words=("true", "false")),
        "output_bias": Setting("Whether the output projection has a bias.", words=("true", "false")),
        "mlp_bias": Setting("Whether the FFN has biases.", words=("true", "false")),
        "qk_norm": Setting("Whether queries and keys are normed a head.", words=("true", "false")),
        "window": Setting("Tokens that every attention sees at most; all unless said."),
    },
)
HF_PARENT = Call(
    "A checkpoint of the Hugging Face hub, or a directory.",
    {
        "id": Setting("The id on the hub, or a directory (relative to this file)."),
        "revision": Setting("A branch, tag or commit of the hub's repository."),
        "shape": Setting(
            "The architecture: with it, checking and solving need no checkpoint.", calls={"shape": SHAPE}
        ),
    },
    positional=1,
)
_COLUMN = Setting("The field that holds the text.", bare=True)
HF_DATA = Call(
    "A data set of the Hugging Face hub.",
    {"id": Setting("Its id."), "split": Setting("Which part.", bare=True), "column": _COLUMN},
    positional=1,
)
TEXT = Call(
    "Text files; blank lines separate documents.",
    {"path": Setting("A path or glob, relative to this file.")},
    positional=1,
    rest=True,
)
JSONL = Call(
    "One JSON document a line.",
    {"path": Setting("A path or glob, relative to this file."), "column": _COLUMN},
    positional=1,
    rest=True,
)
MIX = Call(
    "Blocks of several texts in these proportions: `mix(corpus: 2, stories: 1)`.",
    rest=True,
    named_by=("data",),
)
MEASURED = Call(
    "Costs come from `pzl measure` on this machine.",
    {
        "device": Setting("What computes.", words=DEVICES),
        "dtype": Setting("What it computes in.", words=("fp32", "bf16", "fp16")),
        "gpus": Setting("Devices that share the model."),
        "memory": Setting("Memory of a device: gives `h.memory` a value."),
    },
)
TABLE = Call(
    "Figures made elsewhere: a table in long form.",
    {"path": Setting("A CSV file, relative to this file.")},
    positional=1,
)
BATCH = Call(
    "A workload: `batch(256, 128 -> 1024)`.",
    {
        "batch": Setting(
            "Sequences: a number, several (`64 | 128`: a decision), or `auto`.", words=("auto",)
        ),
        "tokens": Setting("Prompt and output tokens of a sequence: `128 -> 1024`."),
    },
    positional=2,
)
_PEAK = {
    "peak": Setting("The highest learning rate."),
    "warmup": Setting("Share of the steps over which it rises."),
}
COSINE = Call("A learning rate that falls along a cosine.", _PEAK, positional=1)
CONSTANT = Call("A learning rate that stays.", _PEAK, positional=1)
SCHEDULES = {"cosine": COSINE, "constant": CONSTANT}
SCORE_METRICS = {
    "kl_divergence": Call("Divergence of the logits from the parent's: predicts the child best."),
    "lm_loss": Call("Rise of the language-modelling loss."),
    "cosine": Call("Cosine distance of the last hidden state."),
    "top_k_agreement": Call(
        "Share of the parent's likeliest tokens that are not among the child's.",
        {"k": Setting("How many tokens a position; 1 unless said.")},
        positional=1,
    ),
    "accuracy": Call(
        "Drop in accuracy on multiple-choice tasks.",
        {"tasks": Setting("A JSONL file, relative to this file.")},
        positional=1,
    ),
}
REPLACE_ONE = Call(
    "Replaces one block of the parent at a time and compares (Puzzle, section 4.1).",
    {
        "metric": Setting("What is compared.", calls=SCORE_METRICS),
        "samples": Setting("Token positions that are scored."),
        "unit": Setting("What is replaced at a time.", words=("subblock", "block")),
        "pairwise": Setting("Adds second-order terms between layers.", words=("true", "false")),
        "children": Setting("Fits the scores to this many children, measured whole."),
        "runs": Setting("Scores consecutive layers dropped together, of these lengths: `2..8`."),
        "healed": Setting("Heals the layer behind each replacement on so many tokens first: `4Ki`."),
        "around": Setting("Scores inside the child this search found.", kinds=("search",)),
        "rounds": Setting("How often to solve and score again."),
        "data": Setting("What is scored on.", kinds=("data",)),
    },
    positional=1,
)
_SEED = Setting("Makes the answer repeatable.")
SOLVERS = {
    "cpsat": Call(
        "Proven optimal within the gap, or the best found in time with its bound.",
        {
            "time": Setting("When to stop."),
            "gap": Setting("How far from the optimum is near enough: `0`, `0.1%`."),
            "seed": _SEED,
        },
    ),
    "greedy": Call("The paper's budget-constrained greedy baseline."),
    "max_params": Call("The most parameters that fit (a baseline)."),
    "uniform": Call("The same alternative in every layer (a baseline)."),
    "uniform_width": Call("The same FFN width and KV heads in every layer, nothing dropped (a baseline)."),
    "block_influence": Call("Whole layers dropped, those that change the stream least first (a baseline)."),
    "angular_run": Call("One run of layers dropped, that of least angular distance (a baseline)."),
    "random": Call("A random child that fits (a baseline).", {"seed": _SEED}),
    "noop_only": Call("Only removals (a baseline)."),
}
_REFINE = {
    "children": Setting("How many children are measured."),
    "healed": Setting("Tokens each child is healed on before it is measured; `0`: none."),
    "samples": Setting("Token positions that are compared with the parent."),
    "data": Setting("The text that is measured on; the score's unless said.", kinds=("data",)),
}
EVOLUTIONARY = Call("Mutation, and selection by measuring (EvoPress, a baseline).", _REFINE, positional=1)
REFINES = {
    "measured": Call(
        "The exact solver proposes children, each is measured, and the scores are refitted to them.",
        _REFINE,
        positional=1,
    ),
    "evolutionary": EVOLUTIONARY,
    "none": Call("Not refined: the child is the optimum of the scores."),
}
SWEEP = Call(
    "Solves the search at several bounds of one amount.",
    {
        "metric": Setting("The amount: `chat.throughput`, `params`, a score."),
        "range": Setting("From .. to, in its unit or in multiples of the parent's: `1x..3x`."),
        "points": Setting("How many, evenly spaced."),
        "children": Setting(
            "How many children are measured at each point, as `refine` of the search does. Without it none is."
        ),
    },
    positional=2,
)
USED_BY = Call(
    "The sub-space of what a search's best solutions use, for coupled BLD.",
    {
        "search": Setting("Which search.", kinds=("search",)),
        "top": Setting("How many of its solutions."),
    },
    positional=1,
)
TASKS = Call(
    "Multiple-choice tasks.",
    {"path": Setting("JSONL files, relative to this file.")},
    positional=1,
    rest=True,
)


def _export(doc: str, name: str, dtypes: tuple[str, ...]) -> Call:
    return Call(
        doc,
        {
            "path": Setting("Where to, relative to this file."),
            "runtime": Setting("What will load it.", words=RUNTIMES[name]),
            "dtype": Setting("What weights are stored in.", words=dtypes),
            "lower": Setting(
                "Whether what the runtime lacks may be rewritten exactly.", words=("true", "false")
            ),
        },
        positional=1,
    )


EXPORTS = {
    "hf": _export("A Hugging Face checkpoint.", "hf", TENSOR_DTYPES),
    "gguf": _export("One GGUF file for llama.cpp.", "gguf", GGUF_DTYPES),
    "mlx": _export("A checkpoint for Apple MLX.", "mlx", TENSOR_DTYPES),
}

ANYWHERE: dict[str, Call] = {
    **FFN,
    **ATTENTION,
    "shape": SHAPE,
    "text": TEXT,
    "jsonl": JSONL,
    "mix": MIX,
    "measured": MEASURED,
    "table": TABLE,
    "batch": BATCH,
    "replace_one": REPLACE_ONE,
    "sweep": SWEEP,
    "used_by": USED_BY,
    "tasks": TASKS,
    "gguf": EXPORTS["gguf"],
    "mlx": EXPORTS["mlx"],
    **{name: call for name, call in SCORE_METRICS.items() if name != "cosine"},
    **SCHEDULES,
    **SOLVERS,
    "evolutionary": EVOLUTIONARY,
}
"""Constructors whose arguments are known without a context, as on the right of a `let`."""
