"""Measurements of a parent and its children, also in engines; the texts that stages read and write, and their failures.

`MEASURES` has one record for each measure on text, read by evaluations, reports and docs; `evaluate.divergence` measures them.
"""

from typing import Literal

from puzzledsl.base.frozen import Frozen, Record, left_out
from puzzledsl.ir.base import Artefact


class Measure(Record):
    """A figure of a text: the mean over its positions.

    `label`: its name in reports. `better`: less or more of it. `of_next`: it is about predicted tokens; a block has one fewer of
    them than positions. `exponential`: the figure is the exponential of the mean.
    """

    name: str
    label: str
    better: Literal["less", "more"]
    doc: str
    unit: str = ""
    is_share: bool = False
    of_next: bool = False
    exponential: bool = False


_AGREEMENT = "Share of positions at which the parent's likeliest token is among the model's {} likeliest."
_AMONG = {k: f"Parent's first choice among the {k} likeliest" for k in (5, 10)}
_TOP = {1: "Top-1 agreement with the parent", **_AMONG}
_MEASURES = (
    Measure(
        "kl", "KL divergence to the parent", "less", "KL divergence to the parent, nats a token.", unit="nats"
    ),
    Measure(
        "perplexity", "Perplexity", "less", "Exponential of cross-entropy.", of_next=True, exponential=True
    ),
    *(
        Measure(f"top{k}_agreement", label, "more", _AGREEMENT.format(k), is_share=True)
        for k, label in _TOP.items()
    ),
)
MEASURES = {measure.name: measure for measure in _MEASURES}


class Figure(Frozen):
    """A measured number with its standard error, where that is meaningful."""

    value: float
    stderr: float | None = None
    unit: str = ""


class ModelFigures(Frozen):
    """Figures measured of one model.

    Keys: params, checkpoint_bytes, the measures of a text (kl, perplexity, top1_agreement …), hellaswag (accuracy),
    SCENARIO.prefill_tokens_per_s, SCENARIO.decode_tokens_per_s, SCENARIO.latency_s, SCENARIO.throughput.
    `texts`: the measures on each data that the evaluation names; `figures` has those of the first.
    """

    model: str  # "parent", a search's name, an uptrain's name
    figures: dict[str, Figure]
    texts: dict[str, dict[str, Figure]] = {}


class Interval(Frozen):
    """An estimate with its 95 % confidence interval (None: one sample gives none)."""

    value: float
    low: float | None = None
    high: float | None = None


class Kept(Frozen):
    """The accuracy that a child keeps on a task, or on all of them (`pooled`).

    `plain` is child / parent; `chance_corrected` is (child - chance) / (parent - chance), with a 95 % interval from a paired
    bootstrap over items. A model is at chance where the interval of its excess does not exclude chance: then a child's
    `verdict` is `child_at_chance`; where the parent is there, nothing can be kept and `chance_corrected` is None. `figures`
    are the accuracies that count (lengths normalised where there is such a figure). `parent`, `child` and `chance` are
    means; pooled, they are means over the tasks whose parent is above chance.
    """

    verdict: Literal["above_chance", "child_at_chance", "parent_at_chance"]
    plain: float | None = None
    chance_corrected: float | None = None
    low: float | None = None
    high: float | None = None
    parent: float
    child: float
    chance: float
    items: int
    figures: tuple[str, ...]


class TextGap(Frozen):
    """Two texts on which a child differs so much from its parent that it is made for one of them (KL in nats a token)."""

    near: str
    far: str
    near_kl: float
    far_kl: float


class Answer(Frozen):
    """A model's greedy answer to a prompt. `repetition`: the share of its runs of 4 tokens that occur earlier in it."""

    text: str
    tokens: int
    repetition: float


class AnsweredPrompt(Frozen):
    """A prompt with the answer of each model.

    `source`: the text or the file that it is from; empty for one of the program. `continuation`: how the text goes on.
    """

    prompt: str
    source: str = ""
    continuation: str = ""
    answers: dict[str, Answer]


class Repetition(Frozen):
    """Mean repetition of a child's and its parent's answers to the same prompts. `remarkable`: the child repeats itself."""

    parent: float
    child: float
    remarkable: bool


class ModelComparison(Frozen):
    """Child beside its parent.

    `perplexity_ratio`: the child's over the parent's; None if no text was read. `kept`: by task, and `pooled` over all tasks.
    `text_gap`: None if the child is about as near to the parent on all texts. `repetition`: None if it answered no prompts.
    """

    model: str
    perplexity_ratio: Interval | None = None
    kept: dict[str, Kept] = {}
    text_gap: TextGap | None = None
    repetition: Repetition | None = left_out(None)


class Ladder(Frozen):
    """The files that an engine's own quantiser makes of the parent, in the order of their records, and how each compares.

    Times are in turn with `child`, whose own file has `child_bytes`, in the scenarios of `engine`. `checkpoint_bytes`: of the
    file. The files next to the child in speed, one on each side, answer the tasks as well.
    """

    engine: str
    child: str
    child_bytes: int
    models: tuple[ModelFigures, ...]
    comparisons: tuple[ModelComparison, ...]


class Evaluation(Artefact):
    """`build/evals/NAME.json`: parent first, then children, measured in one run on the same data.

    `texts`: the data, in the order of the declaration. `ladder`: None where children are not served by an engine that has one.
    """

    eval: str
    texts: tuple[str, ...] = ()
    models: tuple[ModelFigures, ...]
    comparisons: tuple[ModelComparison, ...] = ()
    answers: tuple[AnsweredPrompt, ...] = left_out(())
    ladder: Ladder | None = left_out(None)


EngineName = Literal["transformers", "llama_cpp", "mlx", "vllm"]


class EngineResult(Frozen):
    """A child in one engine against the float64 reference. `refused`: the engine cannot represent it; `absent`: not installed.

    `max_delta` is the largest difference of a logit (or a log-probability, whichever the engine gives), `largest` the largest
    logit of the reference; of `tokens` greedily chosen ones, `same` are the reference's before the first that differs.
    `error`: of a quantised file's logits, relative to their norm; `own_error`: of the engine's 8-bit file of the same weights.
    """

    engine: EngineName
    version: str = ""
    status: Literal["equal", "differs", "refused", "crashed", "absent"]
    reason: str = ""
    max_delta: float | None = None
    largest: float | None = None
    same: int = 0
    tokens: int = 0
    error: float | None = left_out(None)
    own_error: float | None = left_out(None)


class EngineCheck(Frozen):
    """A child in the engines of this machine."""

    name: str
    results: tuple[EngineResult, ...]


class TextCounts(Frozen):
    """Counts of one source as it was tokenised: what was kept as tokens, and what was left out.

    `source`: its node (ir.nodes) as JSON. `learned_tokens`: those that losses count. `duplicates`: exact copies of documents,
    left out if `copies_dropped`. `other_part`: documents outside `part`. `unanswered`: conversations without an answer.
    `cut_tokens`: tokens of the last document behind `take`; `stopped`: `take` ended the stream.
    """

    name: str
    documents: int = 0
    tokens: int = 0
    learned_tokens: int = 0
    duplicates: int = 0
    copies_dropped: bool = False
    other_part: int = 0
    unanswered: int = 0
    cut_tokens: int = 0
    stopped: bool = False
    source: str


class Problem(Frozen):
    """A diagnostic that a task failed with: its code, such as `E1204`, and its message."""

    code: str
    message: str


class Failure(Artefact):
    """`build/failures/STAGE-NAME.json`: the problems of a task that failed when a run last tried it.

    `partly`: True if it left those of its outputs that could be made.
    """

    stage: str
    name: str
    problems: tuple[Problem, ...]
    partly: bool = False

    @property
    def title(self) -> str:
        """The task's stage and name: `eval quality`."""
        return f"{self.stage} {self.name}".strip()

    @property
    def reason(self) -> str:
        """The first problem with its code, and the number of others."""
        first, more = self.problems[0], len(self.problems) - 1
        return f"{first.code}: {first.message}" + (f" (and {more} more)" if more else "")
