"""Tables of the kinds of declarations, with their settings, and of constructors such as `gqa(…)`, with their arguments.

They are made of the files in `alternatives/`, of the settings of IR classes, and of the arguments of `shape(…)` below.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from puzzledsl.alternatives import registry
from puzzledsl.alternatives.alternative import Alternative, Site
from puzzledsl.alternatives.moe import MAX_EXPERTS
from puzzledsl.alternatives.precision import CACHES, FULL, PRECISIONS
from puzzledsl.alternatives.shape import Initialisers
from puzzledsl.alternatives.support import MAX_COUNT
from puzzledsl.base.frozen import type_of
from puzzledsl.base.settings import REQUIRED, Call, Kind, Section, Setting, call_of, calls_of, settings_of
from puzzledsl.families.config import MAX_LAYERS, MAX_SIZE
from puzzledsl.families.registry import FAMILIES
from puzzledsl.ir import nodes
from puzzledsl.ir.hardware_nodes import PROFILE_SECTIONS
from puzzledsl.ir.search_nodes import SOLVERS, SWEEP
from puzzledsl.ir.stage_nodes import ASKED, EXPORTS, SCORE_METRICS
from puzzledsl.language.words import DECLARATIONS, SPACE_WORDS

STORAGE = {
    "dtype": Setting(
        "Storage type of the weights: `full | q8_0 | q4_0` is one alternative each.",
        words=(FULL, *PRECISIONS),
        default="`full`",
        noun="storage type",
    ),
    "kv_cache": Setting(
        "Type that keys and values are stored in: `full | fp8 | q8_0` is one alternative each.",
        words=(FULL, *CACHES),
        default="`full`",
        noun="type of a KV cache",
    ),
}
"""Arguments of alternatives that choose storage types of matrices and of the KV cache, by their field in `Alternative`."""


def _call(kind: type[Alternative]) -> Call:
    tested = kind.fields()
    arguments = {
        key: Setting(each.doc, words=each.words, default=each.default, in_patterns=key in tested)
        for key, each in kind.arguments.items()
    }
    takes = {"dtype": kind.quantisable, "kv_cache": kind.has_cache}
    arguments |= {key: setting for key, setting in STORAGE.items() if takes[key]}
    return Call(kind.summary, arguments, positional=kind.positional)


ALTERNATIVES: Mapping[Site, Mapping[str, Call]] = {
    site: {word: _call(kind) for word, kind in kinds.items()} for site, kinds in registry.KINDS.items()
}
"""Site -> word -> the call that makes its alternatives."""
ATTENTION, FFN = ALTERNATIVES["attention"], ALTERNATIVES["ffn"]
SITES: Mapping[str, Setting] = {
    name: Setting(SPACE_WORDS[name], words=tuple(calls), calls=calls) for name, calls in ALTERNATIVES.items()
}
"""Settings of a space: site (`attention`, `ffn`, `embedding`, `head`) -> the alternatives that it can have."""
INITIALISERS = {name: get_args(type_of(Initialisers, name)) for name in Initialisers.model_fields}
"""Alternative -> the ways to make its weights, the default first."""
_ANY = {word: call for calls in reversed([*ALTERNATIVES.values()]) for word, call in calls.items()}
_EITHER = Setting("", words=tuple(_ANY), calls=_ANY)


def alternatives_of(sub_block: str) -> Setting:
    """Return the setting with the alternatives of a site such as `ffn`; with those of all sites for another name."""
    return SITES.get(sub_block, _EITHER)


def pattern_fields(call: Call) -> tuple[str, ...]:
    """Return the arguments of an alternative's call that a pattern can test."""
    return tuple(name for name, setting in call.arguments.items() if setting.in_patterns)


def _size(doc: str, *names: str, most: int = MAX_SIZE, default: Any = REQUIRED, shown: str = "") -> Setting:
    """Return an argument that is a size of a model, 1 to `most`. `names`: its names in other tools; `shown`: its default."""
    usual = shown or ("" if default is REQUIRED else f"`{default}`")
    return Setting(doc, type=int, at_least=1, at_most=most, value=default, default=usual, elsewhere=names)


def _truth(doc: str, *elsewhere: str) -> Setting:
    return Setting(doc, type=bool, words=("true", "false"), elsewhere=elsewhere)


_FAMILYS = "the family's"


def _mixer(doc: str, **sizes: str) -> Call:
    taps = _size("Taps of its causal convolution.", default=4)
    return Call(doc, {**{name: _size(size) for name, size in sizes.items()}, "conv": taps})


MIXERS = {
    "mamba2": _mixer(
        "Sizes of a Mamba2 mixer.",
        heads="Heads.",
        head_dim="Channels of a head.",
        groups="Groups of heads that share B and C.",
        state="State channels.",
    ),
    "delta_net": _mixer(
        "Sizes of a gated delta net.",
        heads="Heads of values.",
        head_dim="Channels of a value head.",
        key_heads="Heads of keys.",
        key_dim="Channels of a key head.",
    ),
}
SHAPE = Call(
    "A parent's architecture, without a checkpoint.",
    {
        "family": Setting("Whose implementation it has.", words=(*FAMILIES,), noun="parent family", type=str),
        "layers": _size("Layers.", "num_hidden_layers", "num_layers", "n_layers", most=MAX_LAYERS),
        "hidden": _size("Width of the residual stream.", "hidden_size", "n_embd", "d_model"),
        "heads": _size("Query heads.", "num_attention_heads", "num_heads", "n_heads"),
        "kv_heads": _size(
            "Key/value heads; `heads` unless said.", "num_key_value_heads", "num_kv_heads", "n_kv_heads"
        ),
        "head_dim": _size("Channels of a head: its own number, never hidden / heads."),
        "intermediate": _size("Channels of an FFN.", "intermediate_size", "ffn_dim"),
        "vocab": _size("Rows of the embedding.", "vocab_size"),
        "tied": _truth("True if embedding and head share their weights.", "tie_word_embeddings"),
        "window": _size("Tokens that attention sees; all unless said.", "sliding_window", most=MAX_COUNT),
        "attention_bias": _truth("True if q, k and v have biases."),
        "output_bias": _truth("True if the output projection has a bias."),
        "mlp_bias": _truth("True if the FFN has biases."),
        "qk_norm": _truth("True if queries and keys are normalised per head."),
        "experts": _size("Experts of a mixture.", "num_experts", "num_local_experts", most=MAX_EXPERTS),
        "top_k": _size("Experts that a token uses.", "num_experts_per_tok", most=MAX_EXPERTS),
        "expert_width": _size("Channels of an expert.", "moe_intermediate_size"),
        "shared_width": _size("Channels that a mixture uses for every token; none unless said."),
        "full_every": _size("Every so many layers one without the window: of 6, 5, 11, ….", shown=_FAMILYS),
        "no_rope_every": _size("Every so many layers one without rotary embedding.", shown=_FAMILYS),
        "dense_first": _size("So many first layers have an FFN in place of a mixture.", shown="`0`"),
        "attention_every": _size("Every so many layers attention; others have a `mixer`.", shown=_FAMILYS),
        "pattern": Setting(
            'The layers, each of one sub-block: `"M-M*E"` has Mamba2, an FFN, Mamba2, attention and a mixture.',
            type=str,
        ),
        "mixer": Setting("Sizes of layers with a state in place of attention.", calls=MIXERS, noun="mixer"),
    },
)
_OF_LAYERS = "heads kv_heads head_dim intermediate window experts top_k expert_width shared_width".split()
PARENT_LAYER_FACTS: dict[str, str] = {
    "params": "Parameters of the layer.",
    "active_params": "Those that one token uses.",
    "mixer": "`attention`, `mamba2`, `delta_net` or `none`.",
    "ffn": "`dense`, `moe` or `none`.",
    **{name: SHAPE.arguments[name].doc for name in _OF_LAYERS},
    "window": "Tokens that its attention sees at most; 0 without a window.",
}
"""Figure of a parent's layer that expressions can read, as in `llama.layers[3].heads` -> its explanation."""
PARENT_FACTS: dict[str, str] = {
    "layers": "The number of layers; `layers[3]` is one of them.",
    "params": "All its parameters; tied embeddings count once.",
    "active_params": "Those that one token uses: without the experts that it leaves out.",
    **{name: SHAPE.arguments[name].doc for name in ("hidden", "vocab", "tied", "family")},
    **{name: PARENT_LAYER_FACTS[name] for name in _OF_LAYERS},
}
"""Figure of a parent that expressions can read, as in `llama.layers` -> its explanation."""
_HF = calls_of(nodes.HfSource)["hf"]
_LITERAL = Setting(
    "The architecture, in place of a checkpoint.", calls={"shape": SHAPE}, noun="parent's shape", value=None
)
PARENTS = {"hf": replace(_HF, arguments={**_HF.arguments, "shape": _LITERAL}), "shape": SHAPE}
_SOURCES = nodes.TextData, nodes.JsonlData, nodes.ParquetData, nodes.HfData, nodes.TaskData
DATA_SOURCES = {name: call for node in _SOURCES for name, call in calls_of(node).items()}
"""Constructors of a `data` declaration by name, such as `text(…)`, without `mix(…)`."""
MIX = Call("Blocks of several texts: `mix(corpus: 2, stories: 1)`.", rest=True, named_by=("data",))
MEASURED = {**calls_of(nodes.MeasuredHardware), **calls_of(nodes.TableHardware)}
BATCH = replace(
    call_of(nodes.Scenario, "A workload: `batch(256, 128 -> 1024)`."),
    write="write `batch(256, 128 -> 1024)`: sequences, prompt and output tokens of each",
)
_OF_TRAFFIC = call_of(nodes.Traffic, "Requests that come at random: `traffic(2 req/s, 256 -> 128)`.")
_RATE = {"rate": _OF_TRAFFIC.arguments["rate"]}
_LENGTHS = {"tokens": replace(BATCH.arguments["tokens"], value=None), **_OF_TRAFFIC.arguments}
TRAFFIC = replace(
    _OF_TRAFFIC,
    arguments={**_RATE, **_LENGTHS},
    positional=2,
    write="write `traffic(2 req/s, 256 -> 128)`: requests a second, prompt and output tokens of each",
)
_TABLE = 'leave it out; times that were measured elsewhere are costs: `hardware h = table("costs.csv")`'
_BEST = "leave it out: the weights that are best on held-out text are kept (`keep = best`)"
_WHOLE = "leave it out: `healed: 2Ki` scores what healing leaves, and `refine = measured(12)` of a search measures whole children"
_EXACT = "leave it out: searches are exact. A rule is a requirement: `for i in 1..9 { require layers[i] same as layers[0] }`"
_RULES = "greedy max_params uniform random noop_only uniform_width block_influence angular_run".split()
FORMER = {
    **dict.fromkeys(_RULES, _EXACT),
    "children": "leave it out, and write `refine = measured(24)` in the search: so many whole children are measured",
    "pairwise": _WHOLE,
    "gqa_decode": _TABLE,
    "ema": _BEST,
    "around": _WHOLE,
    "rounds": _WHOLE,
    "sampled": 'save text that the parent writes as a file, and read it: `text("own.txt")`',
}
"""Setting, solver or call of earlier versions -> what to write in its place."""
FORMER_FIGURES = {
    "range": "a range includes both ends: write `0..9`",
    **dict.fromkeys(("floor", "ceil", "round", "abs"), "numbers are exact: write the whole number"),
    "size": "leave it out: `pzl show` prints how many alternatives each layer has",
    "top_k_agreement": "bound what a judge measures of whole children: `require taste.agreement >= 90%`",
}
"""Function or figure of expressions in earlier versions -> what to write in its place."""
SCORES = {**calls_of(nodes.ReplaceOne), **calls_of(nodes.ScoreFromTable)}
USED_BY = call_of(nodes.UsedBy)
TASKS = Call(
    "Multiple-choice tasks.",
    {"path": Setting("JSONL files, relative to this file.", type=str, many=True)},
    positional=1,
    rest=True,
    write='write `tasks("hellaswag.jsonl")`',
)
_OF_DECLARATIONS: dict[str, Call] = {
    "shape": SHAPE,
    **MIXERS,
    **DATA_SOURCES,
    "mix": MIX,
    **MEASURED,
    "batch": BATCH,
    "traffic": TRAFFIC,
    **SCORES,
    "sweep": SWEEP,
    "used_by": USED_BY,
    "tasks": TASKS,
    "prompts": ASKED["prompts"],
    **EXPORTS,
    **{str(metric): call for metric, call in SCORE_METRICS.items()},
    **calls_of(nodes.Schedule),
    **SOLVERS,
}
ANYWHERE = {name: call for name, call in {**FFN, **ATTENTION, **_OF_DECLARATIONS}.items() if name != "hf"}
"""Constructors whose arguments are known without a context, as on the right of a `let`."""
CONSTRUCTORS = frozenset((*ANYWHERE, "hf"))
"""Words that construct a value, such as `gqa` and `table`; the declaration that takes the value reads the arguments."""


PROFILE = settings_of(nodes.RooflineHardware)
"""Settings of a hardware profile, in its body or as arguments of a modified profile."""
_AMOUNTS = ("memory", "bandwidth", "link", "reserve", "gpus", "expert_parallel")
_NUMBERS = ("dtype", "experts", "activations", "kv_cache", "embedding", "head")
HARDWARE_FACTS: dict[str, str] = {name: PROFILE[name].doc for name in (*_AMOUNTS, *_NUMBERS)}
"""Figure of a hardware that expressions can read, as in `h.memory` -> its explanation."""
_INIT = {
    name: Setting(f"Initial weights of {name} alternatives.", words=words, noun=f"initialiser of {name}")
    for name, words in INITIALISERS.items()
}
_KINDS = (
    Kind('parent p = hf("id-or-directory")', value=Setting("", calls=PARENTS, noun="parent")),
    Kind(
        'data d = text("corpus/*.txt")',
        plural="data",
        value=Setting("", calls={**DATA_SOURCES, "mix": MIX}, kinds=("data",), noun="data source"),
    ),
    Kind(
        "hardware h = h100_sxm(gpus: 1, dtype: fp8)",
        plural="hardware",
        targets=("hardware",),
        value=Setting("", calls=MEASURED, kinds=("hardware",), noun="hardware"),
        settings=PROFILE,
        sections=PROFILE_SECTIONS,
    ),
    Kind(
        "scenario s on h = batch(256, 128 -> 1024)",
        targets=("hardware",),
        of="hardware",
        value=Setting("", calls={"batch": BATCH, "traffic": TRAFFIC}, noun="scenario"),
    ),
    Kind(
        "space w of p { attention = parent | noop }",
        targets=("parent", "space"),
        value=Setting("", calls={"used_by": USED_BY}, noun="sub-space"),
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
        value=Setting("", calls=SCORES, noun="way to score"),
    ),
    Kind(
        'judge taste of p = tasks("hellaswag.jsonl") { data = d }',
        "judges",
        targets=("parent",),
        of="parent",
        value=Setting("", calls={"tasks": TASKS}, noun="questions"),
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
        value=Setting("", calls={"tasks": TASKS}, noun="evaluation"),
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
"""First word of a declaration, `KIND NAME …` -> its kind, in the order of a program."""
