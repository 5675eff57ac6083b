"""Constructor words and their arguments. Those of alternatives stand in alternatives.py."""

from __future__ import annotations

from puzzledsl.families.registry import FAMILIES
from puzzledsl.language.alternatives import ATTENTION, FFN
from puzzledsl.language.engines import ENGINES, engine_words
from puzzledsl.language.model import Call, Setting
from puzzledsl.language.recipes import RECIPES
from puzzledsl.language.words import TRUTHS

CONV_TAPS = 4
"""Taps of a mixer's convolution unless said."""
_CONV = Setting("Taps of its causal convolution.", default=f"`{CONV_TAPS}`")
MIXERS = {
    "mamba2": Call(
        "Sizes of a Mamba2 mixer.",
        {
            "heads": Setting("Heads."),
            "head_dim": Setting("Channels of a head."),
            "groups": Setting("Groups of heads that share B and C."),
            "state": Setting("State channels."),
            "conv": _CONV,
        },
    ),
    "delta_net": Call(
        "Sizes of a gated delta net.",
        {
            "heads": Setting("Heads of values."),
            "head_dim": Setting("Channels of a value head."),
            "key_heads": Setting("Heads of keys."),
            "key_dim": Setting("Channels of a key head."),
            "conv": _CONV,
        },
    ),
}
SHAPE = Call(
    "A parent's architecture, without a checkpoint.",
    {
        "family": Setting("Whose implementation it has.", words=tuple(FAMILIES), noun="parent family"),
        "layers": Setting("Layers.", elsewhere=("num_hidden_layers", "num_layers", "n_layers")),
        "hidden": Setting("Width of the residual stream.", elsewhere=("hidden_size", "n_embd", "d_model")),
        "heads": Setting("Query heads.", elsewhere=("num_attention_heads", "num_heads", "n_heads")),
        "kv_heads": Setting(
            "Key/value heads; as many as `heads` unless said.",
            elsewhere=("num_key_value_heads", "num_kv_heads", "n_kv_heads"),
        ),
        "head_dim": Setting("Channels of a head: its own number, never hidden / heads."),
        "intermediate": Setting("Channels of an FFN.", elsewhere=("intermediate_size", "ffn_dim")),
        "vocab": Setting("Rows of the embedding.", elsewhere=("vocab_size",)),
        "tied": Setting(
            "True if embedding and head share their weights.",
            words=TRUTHS,
            elsewhere=("tie_word_embeddings",),
        ),
        "window": Setting(
            "Tokens that every attention sees at most; all unless said.", elsewhere=("sliding_window",)
        ),
        "attention_bias": Setting("True if q, k and v have biases.", words=TRUTHS),
        "output_bias": Setting("True if the output projection has a bias.", words=TRUTHS),
        "mlp_bias": Setting("True if the FFN has biases.", words=TRUTHS),
        "qk_norm": Setting("True if queries and keys are normalised per head.", words=TRUTHS),
        "experts": Setting("Experts of a mixture.", elsewhere=("num_experts", "num_local_experts")),
        "top_k": Setting("Experts that a token uses.", elsewhere=("num_experts_per_tok",)),
        "expert_width": Setting("Channels of an expert.", elsewhere=("moe_intermediate_size",)),
        "shared_width": Setting("Channels that a mixture uses for every token; none unless said."),
        "full_every": Setting(
            "Every so many layers one without the window: of 6, the layers 5, 11, ….", default="the family's"
        ),
        "no_rope_every": Setting(
            "Every so many layers one without rotary embedding.", default="the family's"
        ),
        "dense_first": Setting("So many first layers have an FFN in place of a mixture.", default="`0`"),
        "attention_every": Setting(
            "Every so many layers one with attention; the others have the `mixer`.", default="the family's"
        ),
        "pattern": Setting(
            'The layers, each of one sub-block: `"M-M*E"` has Mamba2, an FFN, Mamba2, attention and a mixture.'
        ),
        "mixer": Setting(
            "Sizes of the layers that have a state in place of attention.", calls=MIXERS, noun="mixer"
        ),
    },
)
_OF_LAYERS = (
    "heads",
    "kv_heads",
    "head_dim",
    "intermediate",
    "window",
    "experts",
    "top_k",
    "expert_width",
    "shared_width",
)
PARENT_LAYER_FACTS: dict[str, str] = {
    "params": "Parameters of the layer.",
    "active_params": "Those that one token uses.",
    "mixer": "`attention`, `mamba2`, `delta_net` or `none`.",
    "ffn": "`dense`, `moe` or `none`.",
    **{name: SHAPE.arguments[name].doc for name in _OF_LAYERS},
    "window": "Tokens that its attention sees at most; 0 without a window.",
}
"""Figures that expressions can read of one layer of a parent: `llama.layers[3].heads`."""
PARENT_FACTS: dict[str, str] = {
    "layers": "The number of layers; `layers[3]` is one of them.",
    "params": "All its parameters; tied embeddings count once.",
    "active_params": "Those that one token uses: without the experts that it leaves out.",
    **{name: SHAPE.arguments[name].doc for name in ("hidden", "vocab", "tied", "family")},
    **{name: PARENT_LAYER_FACTS[name] for name in _OF_LAYERS},
}
"""Figures that expressions can read of a parent: `llama.layers`."""

HF_PARENT = Call(
    "A checkpoint of the Hugging Face hub, or a directory.",
    {
        "id": Setting("The id on the hub, or a directory (relative to this file)."),
        "revision": Setting("A branch, tag or commit of the hub's repository."),
        "shape": Setting(
            "The architecture: with it, checking and solving need no checkpoint.",
            calls={"shape": SHAPE},
            noun="parent's shape",
        ),
    },
    positional=1,
)
_PATH = Setting("A path or glob, relative to this file.")
_PICKED = {
    "take": Setting("The first so many tokens alone: `10M`.", default="all"),
    "part": Setting(
        "A part of the documents, by the digest of their content: `0%..95%` to train, `95%..100%` to hold out.",
        default="`0%..100%`",
    ),
    "duplicates": Setting(
        "Exact copies of a document are dropped or kept.",
        words=("drop", "keep"),
        noun="treatment of duplicates",
        default="`drop`; `keep` for `text`",
    ),
}
_ROWS = {
    "column": Setting("The field that holds the text.", bare=True, default="`text`"),
    "messages": Setting(
        "The field that holds a conversation, written with the parent's chat template.",
        bare=True,
        elsewhere=("conversations", "conversation", "chat"),
    ),
    "loss": Setting(
        "Tokens of a conversation that losses count: all, or the assistant's answers alone.",
        words=("all", "answers"),
        noun="part of a conversation",
        default="`all`",
    ),
}
TEXT = Call(
    "Text files; blank lines separate documents.", {"path": _PATH, **_PICKED}, positional=1, rest=True
)
JSONL = Call(
    "JSON lines: one document or conversation a line.",
    {"path": _PATH, **_ROWS, **_PICKED},
    positional=1,
    rest=True,
)
PARQUET = Call(
    "Parquet files: one document or conversation a row.",
    {"path": _PATH, **_ROWS, **_PICKED},
    positional=1,
    rest=True,
)
HF_DATA = Call(
    "A data set of the Hugging Face hub, streamed; or a local directory of the same form.",
    {
        "id": Setting("Its id, or a directory relative to this file."),
        "split": Setting("The part that is read.", bare=True, default="`train`"),
        "subset": Setting("Its subset, where it has several.", bare=True, elsewhere=("name", "config")),
        "revision": Setting("A branch, tag or commit of the hub's repository."),
        **_ROWS,
        **_PICKED,
    },
    positional=1,
)
SAMPLED = Call(
    "Text that a parent writes itself: `sampled(p, tokens: 1M)`.",
    {
        "parent": Setting("The parent that writes.", kinds=("parent",)),
        "tokens": Setting("Tokens of all documents."),
        "temperature": Setting(
            "Logits are divided by it: 1 is the parent's own distribution.", default="`1.0`"
        ),
        "prompts": Setting(
            'A file of prompts, `"p.jsonl"` or `"p.txt"`, that documents go on from in turn.',
            default="documents begin from nothing",
        ),
        "length": Setting("Tokens that the parent writes in one document, at most.", default="`512`"),
        "top_k": Setting("Tokens that each is drawn from: the likeliest ones.", default="all"),
        "seed": Setting("Makes the text repeatable.", default="`0`"),
        "dtype": Setting(
            "Number type of the computation.",
            words=("fp32", "bf16"),
            noun="dtype of sampling",
            default="`bf16` where the machine multiplies it itself, else `fp32`",
        ),
        **_PICKED,
    },
    positional=1,
)
TASK_DATA = Call(
    "Questions of multiple-choice tasks, each with its right answer.",
    {"path": Setting("Task files as `eval` takes them, relative to this file."), **_PICKED},
    positional=1,
    rest=True,
)
MIX = Call(
    "Blocks of several texts in these proportions: `mix(corpus: 2, stories: 1)`.",
    rest=True,
    named_by=("data",),
)
DATA_SOURCES = {
    "text": TEXT,
    "jsonl": JSONL,
    "parquet": PARQUET,
    "hf": HF_DATA,
    "sampled": SAMPLED,
    "tasks": TASK_DATA,
}
"""Places that documents come from."""

MEASURED = Call(
    "Costs come from `pzl measure` on this machine.",
    {
        "engine": Setting(
            "What runs the models: PyTorch, or an engine that serves exported ones.",
            words=tuple(ENGINES),
            noun="engine",
            default="`torch`",
        ),
        "device": Setting("The device that computes.", words=engine_words("devices"), noun="device"),
        "dtype": Setting(
            "Number type of the weights. Each engine has its own.",
            words=engine_words("dtypes"),
            noun="dtype of a measurement",
            default=", ".join(f"`{e.dtype}` ({e.title})" for e in ENGINES.values()),
        ),
        "threads": Setting("Processor threads of the engine; not for PyTorch.", default="every core"),
        "gpus": Setting("Devices that share the model."),
        "memory": Setting("Memory of a device: gives `h.memory` a value."),
        "price": Setting("Price of this machine: `0.2 USD/h`. Gives its scenarios `cost_per_mtok`."),
        "power": Setting("Power of this machine at work: `65W`. Gives its scenarios `joules_per_tok`."),
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
        {"k": Setting("Tokens per position; 1 unless said.")},
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
        "metric": Setting("The measure of difference.", calls=SCORE_METRICS, noun="metric"),
        "samples": Setting("Token positions that are scored, not documents.", default="`4096`"),
        "unit": Setting(
            "The unit of one replacement.",
            words=("subblock", "block"),
            noun="unit of a score",
            default="`subblock`; `block` for coupled pieces",
        ),
        "children": Setting(
            "Measures so many whole children, and fits `kl_divergence` to them.",
            default="`0`; `24` of `kl_divergence` from 1,024 `samples` on; `0` with `runs` or `healed`",
        ),
        "runs": Setting("Scores consecutive layers dropped together, of these lengths: `2..8`."),
        "healed": Setting(
            "Heals the layer behind each replacement or run on so many tokens first: `4Ki`.", default="`0`"
        ),
        "around": Setting(
            "Scores inside the child this search found, and tells what each round changed.", kinds=("search",)
        ),
        "rounds": Setting("Rounds of solving and scoring again.", default="`1`"),
        "data": Setting("The text that is scored on.", kinds=("data",), default="that of the pieces"),
    },
    positional=1,
)
_FITTED = "leave it out: `children: 24` fits the scores to whole children, which predicts them better"
FORMER_SETTINGS = {("`replace_one`", "pairwise"): _FITTED}
"""Settings that calls had in earlier versions, with what to write in their place."""
_SEED = Setting("Makes the answer repeatable.", default="`0`")
SOLVERS = {
    "cpsat": Call(
        "Proven optimal within the gap, or the best found in time with its bound.",
        {
            "time": Setting("When to stop.", default="`60s`"),
            "gap": Setting("The distance from the optimum that is near enough: `0`, `0.1%`.", default="`0%`"),
            "seed": _SEED,
        },
    ),
    "greedy": Call(
        "The paper's budget-constrained greedy baseline: the cheapest losses first until the requirements hold."
    ),
    "max_params": Call("The most parameters that fit (a baseline)."),
    "uniform": Call("The best child whose layers are all alike (a baseline)."),
    "random": Call("A random child that fits (a baseline).", {"seed": _SEED}),
    "noop_only": Call("Only removals (a baseline)."),
    "uniform_width": Call(
        "The same FFN width and KV heads in every layer, nothing dropped and nothing linear (a baseline, as "
        "Minitron prunes)."
    ),
    "block_influence": Call(
        "Whole layers dropped, those that change the stream least first, until the requirements hold (a "
        "baseline, as ShortGPT prunes)."
    ),
    "angular_run": Call(
        "One run of consecutive layers dropped: the shortest that will do, of its length the one of least "
        "angular distance (a baseline, Gromov et al.)."
    ),
}
_REFINE = {
    "children": Setting("Children that are measured."),
    "healed": Setting("Tokens each child is healed on before it is measured; `0`: none.", default="`4Ki`"),
    "samples": Setting("Token positions that are compared with the parent.", default="`2Ki`"),
    "data": Setting("The text that is measured on.", kinds=("data",), default="the score's, else the bld's"),
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
        "points": Setting("The number of bounds, evenly spaced."),
        "children": Setting(
            "Children that are measured at each point, as `refine` of the search does. Without it none is."
        ),
    },
    positional=2,
)
USED_BY = Call(
    "The sub-space of what a search's best solutions use, for coupled BLD.",
    {
        "search": Setting("The search whose solutions count.", kinds=("search",)),
        "top": Setting("The number of its best solutions."),
    },
    positional=1,
)
PROMPTS = Call(
    "Prompts that are written here.",
    {"prompt": Setting("A prompt: a question, or a text to go on from.")},
    positional=1,
    rest=True,
)
ASKED = {"prompts": PROMPTS, "none": Call("No prompts are answered.")}
"""Prompts of an evaluation that are no file."""
TASKS = Call(
    "Multiple-choice tasks.",
    {"path": Setting("JSONL files, relative to this file.")},
    positional=1,
    rest=True,
)


def _export(doc: str, name: str, runtimes: tuple[str, ...], dtypes: tuple[str, ...]) -> Call:
    return Call(
        doc,
        {
            "path": Setting("The destination, relative to this file."),
            "runtime": Setting("The runtime that loads it.", words=runtimes, noun=f"runtime of `{name}`"),
            "dtype": Setting("Number type of the stored weights.", words=dtypes, noun="dtype of an export"),
            "lower": Setting(
                "True: what the runtime lacks is rewritten exactly. False: it is an error.", words=TRUTHS
            ),
        },
        positional=1,
    )


_TENSORS = ("fp32", "fp16", "bf16")
EXPORTS = {
    "hf": _export("A Hugging Face checkpoint.", "hf", ("transformers", "vllm", "megatron"), _TENSORS),
    "gguf": _export(
        "One GGUF file for llama.cpp.", "gguf", ("llama_cpp",), ("f32", "f16", "bf16", "q8_0", *RECIPES)
    ),
    "mlx": _export("A checkpoint for Apple MLX.", "mlx", ("mlx",), _TENSORS),
}
"""Format -> its call; the first of its runtimes is the default."""

ANYWHERE: dict[str, Call] = {
    **FFN,
    **ATTENTION,
    "shape": SHAPE,
    **MIXERS,
    **{name: call for name, call in DATA_SOURCES.items() if name not in ("hf", "tasks")},
    "mix": MIX,
    "measured": MEASURED,
    "table": TABLE,
    "batch": BATCH,
    "replace_one": REPLACE_ONE,
    "sweep": SWEEP,
    "used_by": USED_BY,
    "tasks": TASKS,
    "prompts": PROMPTS,
    "gguf": EXPORTS["gguf"],
    "mlx": EXPORTS["mlx"],
    **{name: call for name, call in SCORE_METRICS.items() if name != "cosine"},
    **SCHEDULES,
    **SOLVERS,
    "evolutionary": EVOLUTIONARY,
}
"""Constructors whose arguments are known without a context, as on the right of a `let`."""

CONSTRUCTORS = frozenset((*ANYWHERE, "hf"))
"""Words that construct a value, such as `gqa` and `table`; the declaration that takes the value reads the arguments."""
