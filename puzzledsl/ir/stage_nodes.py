"""Meaning of the declarations whose stages train and measure: `bld`, `score`, `uptrain`, `eval`, `export` and `judge`.

Only a child that was built and measured can meet or miss a requirement on a judge's figure. Before any child is measured, a
search takes a first guess in its place: a bound on the sum of a score. Measured children then move that bound.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.base.frozen import BY_KIND, Frozen, Record
from puzzledsl.base.settings import Call, Setting, call_of, setting
from puzzledsl.ir.base import Declaration, Exact, Where
from puzzledsl.ir.measured_engines import RECIPES

MAX_CONTEXT = 2**24
MAX_SEED = 2**31 - 1
ONLY_DATA = "the program's only one"
Metric = Literal["kl_divergence", "lm_loss", "cosine", "accuracy"]
_DATA: dict[str, Any] = {"default": None, "kinds": ("data",)}
_CONTEXT: dict[str, Any] = {"default": 2048, "at_least": 1, "at_most": MAX_CONTEXT}
_RATE, _SCHEDULE = "The learning rate.", "learning rate schedule"
_SEED: dict[str, Any] = {"default": 0, "at_most": MAX_SEED}


class Schedule(Frozen):
    """A learning rate: linear warm-up over `warmup` of the steps, then `kind`."""

    words: ClassVar[Mapping[str, str]] = {
        "cosine": "A learning rate that falls along a cosine.",
        "constant": "A learning rate that stays.",
    }
    example: ClassVar[str] = "(1e-4)"
    kind: Literal["cosine", "constant"] = "cosine"
    peak: float = setting("The highest learning rate.", at_least=0, at_most=1000, positional=True)
    warmup: float = setting(
        "Share of the steps over which it rises.", default=0.0, at_least=0, at_most=1, shown="`0%`"
    )


class Bld(Declaration):
    """Blockwise local distillation. Children of its pieces are healed on `data` where `heal_data` is None."""

    space: str
    mode: Literal["decoupled", "coupled"] = setting(
        "`attention + ffn` is decoupled (A + F jobs a layer), `attention * ffn` coupled (A x F).",
        word="train",
        wide=True,
        words=("attention", "ffn"),
        noun="sub-block",
        shown="`attention + ffn`",
        sums=True,
    )
    sub_blocks: tuple[SubBlock, ...] = ("attention", "ffn")
    tokens: int = setting(
        "The budget of each job; `0` for initialisation alone.",
        write="write `tokens = 100M`: each job's budget (`0` for initialisation alone)",
    )
    context: int = setting("Tokens of a sequence.", **_CONTEXT)
    batch: int = setting("Sequences in a step.", default=1, at_least=1)
    lr: Schedule = setting(_RATE, noun=_SCHEDULE, shown="`cosine(1e-4, warmup: 1%)`")
    loss: Literal["normalized_mse"] = setting(
        "The loss that is minimised.", noun="loss", default="normalized_mse"
    )
    data: str | None = setting("The text to train on.", shown=ONLY_DATA, **_DATA)
    calibration_tokens: int = setting(
        "Tokens that initialisers see.", word="calibration", default=16384, at_least=1
    )
    heal_tokens: int = setting(
        "Tokens that children of these pieces are healed on, or as many as the text has; `0` leaves them as assembled.",
        word="heal",
        default=24576,
    )
    heal_data: str | None = setting(
        "The text that children are healed on.", shown="the same as for training", **_DATA
    )
    seed: int = setting("Makes the result repeatable.", **_SEED)


SCORE_METRICS: Mapping[Metric, Call] = {
    "kl_divergence": Call("Divergence of the logits from the parent's: predicts the child best."),
    "lm_loss": Call("Rise of the language-modelling loss."),
    "cosine": Call("Cosine distance of the last hidden state."),
    "accuracy": Call(
        "Drop in accuracy on multiple-choice tasks.",
        {"tasks": Setting("A JSONL file, relative to this file.", name="tasks", type=str)},
        positional=1,
        write='write `accuracy("tasks.jsonl")`',
    ),
}


class ReplaceOne(Frozen, kind="replace_one"):
    """Replaces one sub-block or block of the parent at a time, and compares the outputs (Puzzle, section 4.1)."""

    metric: Metric = setting(
        "The measure of difference.",
        calls=SCORE_METRICS,
        noun="metric",
        positional=True,
        write="write `score kl of b = replace_one(kl_divergence, samples: 4Ki)`",
    )
    samples: int = setting("Token positions that are scored, not documents.", default=4096, at_least=1)
    tasks: str | None = None  # JSONL path, for accuracy
    unit: Literal["subblock", "block"] = setting(
        "The unit of one replacement.",
        noun="unit of a score",
        default="subblock",
        shown="`subblock`; `block` for coupled pieces",
    )
    runs: tuple[int, int] | None = setting(
        "Scores consecutive layers dropped together, of these lengths: `2..8`.", default=None
    )
    healed: int = setting("Tokens on which the layer behind a replacement is healed first: `4Ki`.", default=0)
    data: str | None = setting("The text that is scored on.", shown="that of the pieces", **_DATA)


class ScoreFromTable(Frozen, kind="table"):
    """Figures made elsewhere: a table in long form."""

    example: ClassVar[str] = '("scores.csv")'
    path: str = setting("A CSV file, relative to this file.", positional=True)


class Score(Declaration):
    """Loss of each alternative. Lower is better: of `accuracy` a table holds the drop."""

    bld: str | None
    space: str
    method: Annotated[ReplaceOne | ScoreFromTable, BY_KIND]


class Uptrain(Declaration):
    """Global knowledge distillation of a search's best child. `kld`, `cosine`, `lm`: weights of the losses.

    `micro_batch` None: as many as are reasonable. `dtype` None: bf16 where the device multiplies it faster, fp32 elsewhere.
    `fits_child`: the peak of `lr` is lowered for a child that is near its parent.
    """

    search: str
    kld: float = setting(
        "A weighted sum: `1 * kld + 1 * cosine + 0 * lm`.",
        word="loss",
        wide=True,
        default=0.0,
        words=("kld", "cosine", "lm"),
        noun="loss of uptraining",
        shown="`kld + cosine`",
        sums=True,
    )
    cosine: float = 0.0
    lm: float = 0.0
    tokens: int = setting("Tokens that it is trained on.", write="write `tokens = 1B`")
    context: int = setting("Tokens of a sequence.", **_CONTEXT)
    batch: int = setting(
        "Sequences in a step; grows with the root of `tokens`.", default=1, at_least=1, shown="by `tokens`"
    )
    lr: Schedule = setting(_RATE, noun=_SCHEDULE, shown="by `tokens`")
    fits_child: bool = False
    data: str | None = setting("The text to train on.", shown=ONLY_DATA, **_DATA)
    seed: int = setting("Makes the result repeatable.", **_SEED)
    micro_batch: int | None = setting(
        "Sequences in one forward; gradients add up to those of the step.", default=None, at_least=1
    )
    dtype: Literal["fp32", "bf16"] | None = setting(
        "Number type of matrix products.", default=None, noun="dtype of uptraining"
    )
    recompute: bool = setting("Gradient checkpointing: less memory, a third more time.", default=False)
    keep: Literal["best", "last"] = setting(
        "The weights that are written: the best of six evaluations on held-out text, or the last.",
        default="best",
        noun="choice of weights",
        left_out=True,
    )


class Prompts(Frozen):
    """Prompts for parent and child: those of a file, or `texts`; neither: none."""

    path: str | None = None
    texts: tuple[str, ...] = ()


_PROMPT = Setting("A prompt: a question, or a text to go on from.", type=str, many=True, name="texts")
ASKED = {
    "prompts": Call(
        "Prompts that are written here.",
        {"prompt": _PROMPT},
        positional=1,
        rest=True,
        node=Prompts,
        write='write `prompts("Once upon a time")`',
    ),
    "none": Call("No prompts are answered.", node=Prompts),
}
"""Calls that an evaluation's `prompts` takes in place of a file."""


class Eval(Declaration):
    """Evaluation of the parent and the child. `of` names an uptrain or a search.

    `data`, then `more_data`: the texts that models are compared on, each by itself. `dtype` None: the one they are compared in.
    """

    of: str
    tasks: tuple[str, ...] = ()
    items: int | None = setting("Items of each task.", default=None, at_least=1)
    data: str | None = setting(
        "The text of perplexity and KL; `heldout + code`: on each.", sums=True, shown=ONLY_DATA, **_DATA
    )
    more_data: tuple[str, ...] = ()
    tokens: int = setting("Tokens of each text.", default=8192)
    lm_eval: tuple[str, ...] = setting('Tasks of lm-evaluation-harness: `"arc_easy, hellaswag"`.', default=())
    shots: int | None = setting("Examples before each question.", default=None, at_least=0, at_most=100)
    full: tuple[str, ...] = setting(
        "Children that answer the tasks and are timed: `final + best`. Unless said, the child of `of` and the"
        " untrained one it came from; the others are compared by KL and perplexity.",
        default=(),
        kinds=("uptrain", "search"),
    )
    dtype: Literal["fp32", "bf16"] | None = setting(
        "Number type in which models answer the tasks: `bf16` is faster where the processor has it.",
        default=None,
        noun="dtype of tasks",
    )
    prompts: Prompts | None = setting(
        'Prompts that parent and child answer side by side: `"p.jsonl"`, `"p.txt"`, `prompts("…", "…")` or `none`.',
        default=None,
        calls=ASKED,
        noun="form of prompts",
        shown="three from the text",
        left_out=True,
    )
    ladder: bool = setting(
        "Where llama.cpp serves: the files that its own quantiser makes of the parent are measured beside the child.",
        default=True,
        left_out=True,
    )


class Exported(Frozen):
    """The arguments of an export's call. `lower`: None allows an exact rewrite of what the runtime lacks, with a warning."""

    path: str = setting("The destination, relative to this file.", positional=True)
    runtime: str = setting("The runtime that loads it.", default="transformers")
    dtype: str | None = setting("Number type of the stored weights.", default=None, noun="dtype of an export")
    lower: bool | None = setting(
        "True: what the runtime lacks is rewritten exactly. False: it is an error.", default=None
    )


class Export(Exported, Declaration):
    """A checkpoint of an uptrain or a search, `of`. `runtime_where`: where the runtime is named, or the whole declaration."""

    of: str
    format: Literal["hf", "gguf", "mlx"] = "hf"
    runtime_where: Where


def _export(name: str, doc: str, runtimes: tuple[str, ...], dtypes: tuple[str, ...]) -> Call:
    call, usual = call_of(Exported, doc), runtimes[0]
    known = {**call.arguments, "dtype": replace(call.arguments["dtype"], words=dtypes)}
    said: dict[str, Any] = {"default": f"`{usual}`", "noun": f"runtime of `{name}`"}
    known["runtime"] = replace(known["runtime"], words=runtimes, value=usual, **said)
    return replace(call, arguments=known, write=f'write `{name}("out/child")`')


_TENSORS = ("fp32", "fp16", "bf16")
EXPORTS = {
    "hf": _export("hf", "A Hugging Face checkpoint.", ("transformers", "vllm"), _TENSORS),
    "gguf": _export(
        "gguf", "One GGUF file for llama.cpp.", ("llama_cpp",), ("f32", "f16", "bf16", "q8_0", *RECIPES)
    ),
    "mlx": _export("mlx", "A checkpoint for Apple MLX.", ("mlx",), _TENSORS),
}
"""Format -> its call; the first of its runtimes is the default."""

JUDGED_CHILDREN = 12
"""Children that a search with a requirement on a judged figure measures, unless its `refine` says another number."""
_LEAST = Fraction(1, 1000)
"""The lowest first guess, in nats: even where nothing may be lost, there are children to begin with."""


class JudgedFigure(Record):
    """A figure that `JUDGE.NAME` gives of a child.

    `of_parent`: its bound is a multiple of the parent's (`1.05x`). `guess`: the function from a bound on the figure to the bound
    on the summed KL divergence, in nats, that a search begins with.
    """

    name: str
    better: Literal["less", "more"]
    doc: str
    guess: Callable[[Fraction], Fraction]
    of_parent: bool = False
    example: str = ""

    def first(self, bound: Fraction) -> Fraction:
        """Return the bound on the summed KL divergence, in nats, that a search begins with for a `bound` on this figure."""
        return max(_LEAST, self.guess(bound))


_FIGURES = (
    JudgedFigure(
        "kl",
        "less",
        "KL divergence of the child from the parent on the judge's text, nats a token.",
        lambda bound: bound,
        example="0.05",
    ),
    JudgedFigure(
        "kept",
        "more",
        "Accuracy beyond chance that the child keeps: `(child - chance) / (parent - chance)` over all tasks.",
        lambda bound: 1 - bound,
        example="95%",
    ),
    JudgedFigure(
        "agreement",
        "more",
        "Share of tokens at which child and parent hold the same one for the likeliest.",
        lambda bound: 1 - bound,
        example="90%",
    ),
    JudgedFigure(
        "perplexity",
        "less",
        "Perplexity of the judge's text as a multiple of the parent's.",
        lambda bound: bound - 1,
        of_parent=True,
        example="1.05x",
    ),
)
JUDGED = {figure.name: figure for figure in _FIGURES}
"""Figures of a judge by name. The first guesses are orders of magnitude: what children measure replaces them."""


class Judge(Declaration):
    """Texts and questions that searches choose a child by. They are not those of an evaluation, which reports on the child."""

    parent: str
    tasks: tuple[str, ...] = ()
    items: int | None = setting("Items of each task.", default=None, at_least=1)
    data: str = setting(
        "The text that the child is compared with the parent on.",
        kinds=("data",),
        write="write `data = heldout`, a text that nothing is trained on",
    )
    tokens: int = setting("Tokens of the text.", default=8192)
    sure: Exact = setting(
        "How sure a requirement is: the one-sided confidence that a measured figure meets it.",
        default=Fraction(4, 5),
        at_least=Fraction(1, 2),
        at_most=Fraction(999, 1000),
        shown="`80%`",
    )
    dtype: Literal["fp32", "bf16"] | None = setting(
        "Number type in which models answer the tasks.", default=None, noun="dtype of tasks"
    )


class Judged(Frozen):
    """A requirement on a figure that a judge measures of whole children: `taste.kl <= 0.05`."""

    judge: str
    figure: str
    bound: Exact

    @property
    def record(self) -> JudgedFigure:
        """The record of the figure, from JUDGED."""
        return JUDGED[self.figure]

    @property
    def op(self) -> Literal["<=", ">="]:
        """The comparison: a figure of which less is better has an upper bound."""
        return "<=" if self.record.better == "less" else ">="
