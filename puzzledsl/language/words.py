"""Keywords, functions, metrics and the other words that stand in expressions, each with a line of explanation."""

from puzzledsl.base import units
from puzzledsl.base.frozen import Record
from puzzledsl.ir import measured_engines

DTYPES = measured_engines.DTYPES


class Measure(Record):
    """The type of a `param`: its explanation, and its dimension (None for `Text` and `Bool`)."""

    doc: str
    dimension: units.Dimension | None = None


DECLARATIONS: dict[str, str] = {
    "parent": "The model that is taken apart.",
    "data": "Text to train or score on.",
    "hardware": "The machine that the child must run on.",
    "scenario": "A workload on a hardware; its metrics are `memory`, `latency`, `throughput` …",
    "space": "The alternatives of each layer.",
    "bld": "Blockwise local distillation: makes the pieces, each alone against the parent's outputs.",
    "score": "The loss in quality of one replacement in the parent, for each alternative of each layer.",
    "judge": "Texts and questions that a search chooses its child by; its figures are `kl`, `kept`, `agreement`, `perplexity`.",
    "search": "Chooses one alternative a sub-block a layer.",
    "frontier": "A search solved at several values of one bound.",
    "uptrain": "Global knowledge distillation of a search's best child.",
    "eval": "Measurements on the parent and the child.",
    "export": "A checkpoint for a runtime.",
}
"""Kind of declaration, `KIND NAME …` -> its explanation, in the order of a program. kinds.py has the contents of each."""
TOP_KEYWORDS: dict[str, str] = {
    "use": 'Names of another file: `use "std/hardware.pzl" (h100_sxm)`, or `use "lib.pzl" as lib`.',
    "param": "A value that `--set NAME=VALUE` changes: `param headroom: Ratio = 95%`.",
    "let": "Names a value. In a body it is visible to the statements after it.",
    "fn": "A pure function: `fn half(x) = x / 2`.",
    "assert": 'Must hold, or the program is refused: `assert llama.layers == 80 because "…"`.',
}
"""Keywords that begin a top-level item."""
STATEMENT_KEYWORDS: dict[str, str] = {
    "require": "A constraint that every solution must meet.",
    "prefer": "A soft goal: maximised after the objective, in the order written. `prefer -x` is less of x.",
    "minimize": "The goal of a search: the smaller the better.",
    "maximize": "The goal of a search: the larger the better.",
    "solutions": "The number of solutions to find: `solutions 10 apart 8`.",
    "for": "One requirement for each element: `for i in 3..78 where i mod 4 == 0 { require … }`.",
    "let": TOP_KEYWORDS["let"],
    "assert": TOP_KEYWORDS["assert"],
}
"""Keywords that begin a statement in a body."""
OPERATOR_KEYWORDS: dict[str, str] = {
    "and": "Both hold.",
    "or": "At least one holds.",
    "not": "Does not hold.",
    "is": "True if a sub-block's choice matches a pattern: `attention is gqa(kv_heads: >= 4)`.",
    "in": "The elements of a range or list; or whether a value is one of them.",
    "mod": "The remainder of a division.",
    "implies": "If the left side holds, so must the right side.",
}
TARGET_KEYWORDS: dict[str, str] = {
    "of": "The declaration that another builds on. `search b of a { … }` is `a` with some things changed.",
    "on": "The hardware of a scenario.",
}
"""Keywords before the declaration that another one builds on."""
KEYWORDS: dict[str, str] = {
    **TOP_KEYWORDS,
    **STATEMENT_KEYWORDS,
    **OPERATOR_KEYWORDS,
    **TARGET_KEYWORDS,
    "as": "Gives a used file one name: its declarations are `lib.name`.",
    "where": "Keeps the elements for which the condition holds. In `layers[… where …]`, `index` is the layer's number, from 0.",
    "apart": "In how many layers any two solutions differ at least.",
    "because": "The reason, for people: diagnostics and reports repeat it.",
    "if": "`if CONDITION then A else B`, decided when the program is checked.",
    "then": "`if CONDITION then A else B`.",
    "else": "`if CONDITION then A else B`.",
    "step": "Every so many of a range: `layers[.. step 4]`, `0..78 step 2`.",
}
"""Every reserved word. Kinds are plain names to the grammar."""
FUNCTIONS: dict[str, str] = {
    "sum": "The sum, 0 of none: of one figure a layer (`sum(attention.kv_heads)`), of values, or over a comprehension.",
    "count": "In how many layers something holds: `count(attention is noop)`.",
    "min": "The least of several numbers of one dimension.",
    "max": "The greatest of several numbers of one dimension.",
    "mean": "The mean: `mean(ffn.width)` is the sum over the layers divided by how many there are.",
    "all": "Holds where every element holds.",
    "any": "Holds where at least one element holds.",
    "runs": "How many runs of consecutive layers something holds in: `runs(attention is noop) <= 2`.",
    "longest": "The length in layers of the longest run in which something holds: `longest(ffn is noop) <= 4`.",
    "distinct": "The number of different values that the layers take: `distinct(ffn.width) <= 3`, `distinct(attention) <= 2`.",
}
OPERATORS: dict[str, str] = {
    "same as": "Two layers choose the same: `layers[3] same as layers[2]`, or `.attention` or `.ffn` of both."
}
"""Operators written in words that are not reserved."""
SCENARIO_FACTS: dict[str, str] = {
    "prompt": "Prompt tokens of a sequence.",
    "output": "Generated tokens of a sequence.",
}
SUB_BLOCKS: dict[str, str] = {
    "attention": "The attention of a layer: what it may become, or what was chosen.",
    "ffn": "The feed-forward network of a layer: what it may become, or what was chosen.",
}
ENDS: dict[str, str] = {
    "embedding": "The model's embedding: the type that it is stored in.",
    "head": "The model's output head: the type that it is stored in.",
}
_ACTIVE = "Those that one token uses: without the experts that it leaves out."
_SIZES = {"params": "Parameters of the chosen alternative, its norm included.", "active_params": _ACTIVE}
LAYER_FACTS: dict[str, str] = {
    **SUB_BLOCKS,
    "index": "The number of the layer, from 0.",
    "params": "Parameters of what was chosen for the layer.",
    "active_params": "Those that one token uses.",
}
SPACE_WORDS: dict[str, str] = {
    "layers": "The layers: `layers[2..9]`, `layers[..1, -1]`, `layers[40.. where index mod 2 == 1]`. Ends are included.",
    **SUB_BLOCKS,
    **ENDS,
    "params": "Parameters of the child; tied embeddings count once.",
    "active_params": _ACTIVE,
}
SUB_BLOCK_FACTS: dict[str, dict[str, str]] = {
    "attention": {
        "heads": "Query heads of the chosen alternative; 0 for `linear` and `noop`.",
        "kv_heads": "Key/value heads of the chosen alternative; 0 for `linear` and `noop`.",
        "window": "Tokens the chosen alternative attends to at most; 0 where nothing caps them.",
        **_SIZES,
    },
    "ffn": {
        "width": "Intermediate channels of the chosen alternative, over all experts; 0 for `linear` and `noop`.",
        "experts": "Experts of the chosen alternative; 0 if it is no mixture.",
        "top_k": "Experts that a token uses; 0 if the chosen alternative is no mixture.",
        **_SIZES,
    },
}
TYPES: dict[str, Measure] = {
    "Count": Measure("A whole number: `8`, `4Ki`, `51B`.", units.COUNT),
    "Ratio": Measure("A plain number, a share or a multiple of the parent's: `95%`, `0.6x`.", units.COUNT),
    "Bytes": Measure("`80GiB`, `512MB`.", units.BYTES),
    "Time": Measure("`30ms`, `5min`.", units.TIME),
    "Tokens": Measure("`4096tok`.", units.TOKENS),
    "Bandwidth": Measure("`450GB/s`.", units.BYTES_PER_S),
    "Compute": Measure("`989TFLOP/s`.", units.FLOP_PER_S),
    "Throughput": Measure("`200 tok/s`.", units.TOK_PER_S),
    "Money": Measure("`0.4USD`.", units.DOLLARS),
    "Rate": Measure("`2 req/s`.", units.REQ_PER_S),
    "Price": Measure("`2.5 USD/h`.", units.DOLLARS_PER_S),
    "Energy": Measure("`300mJ`.", units.ENERGY),
    "Power": Measure("`700W`.", units.POWER),
    "Text": Measure('A string, `"corpus/*.txt"`, or a bare word.'),
    "Bool": Measure("`true` or `false`."),
}
VALUES: dict[str, str] = {"true": "Holds.", "false": "Does not hold."}
OTHER: dict[str, str] = {
    "index": "The number of a layer, from 0.",
    "auto": "The largest batch that fits.",
    "full": "No limit: of a window, every token before is attended to; of a KV cache, whole sequences fit.",
    "mean": "The KV cache holds sequences at their mean length.",
    "kld": "Divergence of the child's logits from the parent's.",
    "lm": "Cross-entropy with the data's own next token.",
    "cosine": "Cosine distance of hidden states; of a schedule: decay along a cosine.",
    "normalized_mse": "`||child - parent||^2 / ||parent||^2` (Puzzle, section 3).",
    "least_squares": "The least-squares optimum on calibration activations.",
    "mean_pool": "The mean of the heads that are merged (the paper's).",
    "channel_contribution": "Keeps the channels that contribute most (the paper's).",
    "gptq": "Rounds so that the outputs of the calibration change little (arXiv 2210.17323).",
    "nearest": "Rounds each number to the nearest on the grid.",
    "q8_0": "llama.cpp's 8 bits, with a scale for 32 numbers.",
    "q5_0": "llama.cpp's 5 bits, with a scale for 32 numbers.",
    "q4_1": "llama.cpp's 4 bits, with a scale and a minimum for 32 numbers.",
    "q4_0": "llama.cpp's 4 bits, with a scale for 32 numbers.",
    "iq4_nl": "llama.cpp's 4 bits, finer near zero, with a scale for 32 numbers.",
    "subblock": "Attention and FFN are scored apart; a block's score is their sum.",
    "block": "Every attention x FFN pair of a layer is scored, as in the paper.",
    "all": "All tokens of a conversation count.",
    "answers": "Only what the assistant says counts.",
    "drop": "Each document is read once.",
    "keep": "Copies of a document are read as well.",
    "best": "The weights that an evaluation on held-out text found best.",
    "last": "The weights after the last step.",
    "cpu": "The processor of this machine.",
    "cuda": "An NVIDIA or AMD GPU of this machine.",
    "mps": "An Apple GPU.",
    "transformers": "Hugging Face transformers.",
    "vllm": "vLLM.",
    "torch": "PyTorch, with Transformers' modules.",
    "llama_cpp": "llama.cpp.",
    "mlx": "Apple MLX.",
}
"""Words of closed lists that are neither calls nor dtypes."""
