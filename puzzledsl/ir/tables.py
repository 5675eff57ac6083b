"""Artefacts that stages hand to each other: one artefact type an arrow of the pipeline.

    Program -> CostTable            puzzledsl.costs (roofline) or puzzledsl.measure (this machine)
    Program -> list[BldJob]         puzzledsl.plan
    BldJob  -> Piece                puzzledsl.pieces.train, kept by puzzledsl.pieces.store
    pieces  -> ScoreTable           puzzledsl.scoring
    tables  -> SearchResult         puzzledsl.search
    tables  -> WhyResult            puzzledsl.search
    result  -> Refinement           puzzledsl.refining
    Solution -> ModelDefinition     puzzledsl.plan
    child   -> Evaluation           puzzledsl.evaluate
    child   -> EngineCheck          puzzledsl.export

Per-layer tables are tuples with one dictionary a layer, keyed by canonical alternative name.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Literal

from pydantic import Field

from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.base.frozen import Frozen
from puzzledsl.ir.base import Artefact, Exact
from puzzledsl.ir.influence import BlockInfluence
from puzzledsl.ir.nodes import Schedule

# ---------------------------------------------------------------- costs


class Cost(Frozen):
    """Cost of one sub-block (or of the fixed part of a model) in one scenario, on each GPU.

    `prefill_ns`: one forward over batch x prompt tokens. `decode_ns`: one decode step of the whole batch, at the mean
    context length of the generation. Sizes in bytes; `kv_cache_bytes` is for the whole batch at full length.
    `prefill_flop`, `decode_flop`: the arithmetic of the same two forwards, over all GPUs together.
    """

    params: int
    weights_bytes: int
    kv_cache_bytes: int
    prefill_ns: int
    decode_ns: int
    prefill_flop: int = 0
    decode_flop: int = 0


class ScenarioCosts(Frozen):
    """One scenario at one batch size.

    A metric is the fixed part plus the sum over layers of the two chosen sub-blocks: `ir.metrics` defines them.
    """

    scenario: str
    batch: int
    prompt: int
    output: int
    fixed: Cost  # embedding, final norm, head; whatever no layer can change
    reserve_bytes: int = 0
    attention: tuple[dict[str, Cost], ...]
    ffn: tuple[dict[str, Cost], ...]
    # pairs[layer]["gqa1/linear"]: attention and FFN measured together. A pair that is listed is the whole cost of that layer,
    # in place of its two sub-blocks; a layer all of whose pairs are listed may have empty sub-block tables.
    pairs: tuple[dict[str, Cost], ...] = ()
    # metrics that the source of these costs does not say (a table without times, say): no search may mention them
    unknown: tuple[str, ...] = ()
    # set where the batch is `auto`: a child runs at this batch only if its cache fits the share `kv_fraction` of what the
    # reserve and its weights leave of this (`ir.metrics.fits`)
    capacity_bytes: int | None = None
    kv_fraction: Exact = Fraction(1)
    # of all GPUs together, where the hardware states them
    usd_per_s: Exact | None = Field(default=None, exclude_if=lambda price: price is None)
    watts: Exact | None = Field(default=None, exclude_if=lambda power: power is None)


class CellTiming(Frozen):
    """Trust in one scenario's measured costs at one batch.

    Times of the whole parent. Errors are mean absolute errors of sums of costs, as shares, on random whole children. Spreads
    are robust standard deviations of the parent's time between rounds, as shares. `plain_*`: the parent's time as measured /
    its time in plain `generate` - 1, where there is such a time to compare.
    """

    scenario: str
    batch: int
    parent_prefill_ns: int
    parent_decode_ns: int
    prefill_error: float
    decode_error: float
    latency_error: float
    prefill_spread: float
    decode_spread: float
    plain_prefill: float | None = None
    plain_decode: float | None = None


class CostTable(Artefact):
    """`build/costs/SPACE.json`. `scenarios[NAME]` has one entry for each candidate batch, in ascending order.

    Every alternative of the space, and `parent`, is in every layer's dictionary. `provenance`: where figures come from.
    A scenario in `auto` may run at any batch from 1 to the number there: its entries are some of those batches, and
    `costs.any_batch` computes the others from the profile. `timings`: of what `pzl measure` made.
    """

    space: str
    provenance: dict[
        str, str
    ] = {}  # scenario -> "roofline h100_sxm" | "measured on CPU …" | "table costs.csv"
    scenarios: dict[str, tuple[ScenarioCosts, ...]] = {}
    auto: dict[str, int] = {}
    # parameters do not depend on a scenario; used when no scenario is declared
    params_fixed: int
    params_attention: tuple[dict[str, int], ...]
    params_ffn: tuple[dict[str, int], ...]
    timings: tuple[CellTiming, ...] = Field(default=(), exclude_if=lambda timings: not timings)


# ---------------------------------------------------------------- BLD plan and library


class BldJob(Frozen):
    """One piece to make: initialise from the parent's layer, then train alone against the parent's outputs.

    Decoupled jobs have one of `attention`, `ffn`; coupled jobs have both. `id` is a digest of everything that determines
    the result, so equal jobs of different programs share a piece.
    """

    id: str
    bld: str
    layer: int
    sub_block: Literal["attention", "ffn", "block"]
    attention: AttentionAlternative | None = None
    ffn: FfnAlternative | None = None
    shapes: dict[str, tuple[int, ...]]  # weight name -> shape, as stored
    init: str
    loss: str
    tokens: int
    context: int
    batch: int
    lr: Schedule
    calibration_tokens: int
    seed: int


class Piece(Artefact):
    """Record of a finished piece in the library. Losses are normalised MSE on held-out activations."""

    job: BldJob
    file: str
    sha256: str
    loss_initial: float
    loss_final: float
    tokens: int


# ---------------------------------------------------------------- scores


class PairwiseTerm(Frozen):
    """Term of a child's score beyond the sum, when it makes both of two choices at different places.

    `sub_block` is "block" (and the name a pair's, `gqa1/linear`) where the table's unit is; the first place comes before the
    second: lower layer, or attention before FFN in one layer.
    """

    layer: int
    sub_block: Literal["attention", "ffn", "block"]
    name: str
    other_layer: int
    other_sub_block: Literal["attention", "ffn", "block"]
    other_name: str
    value: float


class RunScore(Frozen):
    """The score of dropping `length` consecutive layers, `first` and those after it, all at once: in place of their sum."""

    first: int = Field(ge=0)
    length: int = Field(ge=2)
    value: float


class ScoreFit(Frozen):
    """Fit of replace-1-block KLs to children that were measured whole (`replace_one(…, children: N)`).

    An entry is `scale` times the mean over positions of G log(1 + kl / G) with G `saturation_nats` (None: of kl itself), and
    `pairs` is what covariances are multiplied by. Errors are relative: of predictions of children that were left out of the fit.
    """

    children: int
    scale: float
    saturation_nats: float | None
    pairs: float
    error_rms: float
    error_most: float


class ScoreTable(Artefact):
    """`build/scores/NAME.json`: how much worse the parent gets with one replacement. `parent` is 0 (or absent, meaning 0).

    `pairs[layer]["gqa1/linear"]`: attention/ffn measured together, where `unit` is "block"; then it is the whole score
    of that layer and the sub-block tables are empty. A child's score is `offset`, plus its layers' scores, plus each
    pairwise term both of whose choices it makes. Layers in a row with neither sub-block left have the score of their run in
    `runs`, where it is there. A table made inside an incumbent child (`around`) has an offset: its
    entries are what each choice adds to having the parent's there, and the sum is right for the incumbent.
    `influence` is the parent's, of tables that were measured.
    """

    score: str
    metric: str
    samples: int
    unit: Literal["subblock", "block"] = "subblock"
    attention: tuple[dict[str, float], ...] = ()
    ffn: tuple[dict[str, float], ...] = ()
    pairs: tuple[dict[str, float], ...] = ()
    offset: float = 0.0
    pairwise: tuple[PairwiseTerm, ...] = ()
    fit: ScoreFit | None = None
    influence: BlockInfluence | None = None
    runs: tuple[RunScore, ...] = ()

    def model_post_init(self, context: Any) -> None:
        """Refuse runs beside pairwise terms: those complete a sum over layers."""
        super().model_post_init(context)
        if self.runs and self.pairwise:
            raise ValueError("a score table has runs of layers or pairwise terms, not both")


# ---------------------------------------------------------------- search


class LayerAssignment(Frozen):
    """Canonical names of one layer's choice."""

    attention: str
    ffn: str


class Solution(Frozen):
    """One verified answer. `objective` is exact in the units of the tables; `metrics` in base units, with the parent's beside."""

    objective: float
    layers: tuple[LayerAssignment, ...]
    batches: dict[str, int] = {}
    metrics: dict[str, float] = {}  # "chat.memory" -> bytes, "params" -> count, "kl" -> score …

    @property
    def figures(self) -> dict[str, float]:
        """Metrics in base units, and the batch of every scenario as `chat.batch`."""
        return {**self.metrics, **{f"{name}.batch": float(batch) for name, batch in self.batches.items()}}


class ConflictItem(Frozen):
    """Requirement in a minimal conflict.

    `reachable`: its best value with the others of the set kept, which some model reaches; empty for a statement about layers.
    """

    line: int
    text: str
    because: str = ""
    reachable: str
    proven: bool = True  # that no more is reachable, to the last digit shown
    frees: bool | None = (
        None  # dropping this one alone makes the whole search satisfiable (None: not decided)
    )


class Change(Frozen):
    """A requirement with another bound, as the user would write it. `bound` None: the requirement is dropped."""

    line: int
    text: str
    bound: str | None


class Relaxation(Frozen):
    """The least that must change so that an infeasible search has a solution, and the verified solution that shows it."""

    changes: tuple[Change, ...]
    objective: float
    layers: tuple[LayerAssignment, ...]


class SearchResult(Artefact):
    """`build/solutions/SEARCH.json`: the answer of a search with its proof.

    `bound` is a proven bound on the objective; `gap` is relative. "optimal" means proven within the gap that was asked for;
    `unknown` has no solution, and the bound that was proven before time ran out.
    `conflict_minimal`: every requirement of the conflict was shown to be needed for it. `found_by` and `proved_by` name the part
    of the search that found the first solution and the one that ended the proof (or has the best bound); empty for a heuristic.
    """

    search: str
    status: Literal["optimal", "feasible", "infeasible", "unknown"]
    objective: float | None = None
    bound: float | None = None
    gap: float | None = None
    solver: str = "cpsat"
    found_by: str = ""
    proved_by: str = ""
    solutions: tuple[Solution, ...] = ()
    parent_metrics: dict[str, float] = {}
    conflict: tuple[ConflictItem, ...] = ()
    conflict_minimal: bool = True
    relaxation: Relaxation | None = None


class FrontierPoint(Frozen):
    """One solved point of a frontier.

    `target` is in the base unit of the swept metric. `ratio` is relative to the parent if the frontier sweeps a ratio; where
    the batch size is a decision, the figure of the parent differs from point to point.
    """

    target: float
    ratio: float | None = None
    result: SearchResult


class FrontierResult(Artefact):
    """`build/search/FRONTIER.json`."""

    frontier: str
    search: str
    points: tuple[FrontierPoint, ...]


# ---------------------------------------------------------------- refine


class MeasuredChild(Frozen):
    """Child that was built, healed and measured.

    `predicted`, with its standard error, is the prediction of the score model before the measurement; `measured` is its score.
    Both are in the unit of the score.

    `origin`: "optimum" of the search's scores, a baseline's child ("uniform", "block_influence", "angular_run"), the optimum of
    refitted scores ("model"), of scores drawn around these ("drawn"), a change of a child measured before ("mutated"), or, at a
    point of a frontier, a child that was measured at another point or for the search ("elsewhere"), and predicted there.
    """

    layers: tuple[LayerAssignment, ...]
    origin: Literal[
        "optimum",
        "uniform",
        "block_influence",
        "angular_run",
        "model",
        "drawn",
        "mutated",
        "elsewhere",
    ]
    predicted: float
    predicted_stderr: float
    measured: float


class Refinement(Artefact):
    """`build/refined/SEARCH.json`: children measured around the optimum of the scores, in the order measured.

    At a point of a frontier, children that were measured elsewhere and meet its requirements come after its own.
    `solution` is the best measured child, which nothing proves; its objective and metrics are the search's own, verified.
    `proven` is the objective of the search's optimum. `model_optimum` is the optimum of the refitted scores, and
    `model_prediction` their prediction for it.
    """

    search: str
    score: str
    metric: str
    healed: int
    samples: int
    children: tuple[MeasuredChild, ...]
    solution: Solution
    parent_metrics: dict[str, float] = {}
    model_optimum: tuple[LayerAssignment, ...]
    model_prediction: float
    proven: float

    def model_post_init(self, context: Any) -> None:
        """Refuse an answer that was not measured."""
        super().model_post_init(context)
        if all(child.layers != self.solution.layers for child in self.children):
            raise ValueError("the solution of a refinement is one of the children that were measured")

    @property
    def best(self) -> MeasuredChild:
        """The child of the solution."""
        return next(child for child in self.children if child.layers == self.solution.layers)

    @property
    def here(self) -> tuple[MeasuredChild, ...]:
        """The children that were measured for this bound, not elsewhere."""
        return tuple(child for child in self.children if child.origin != "elsewhere")

    @property
    def optimum(self) -> MeasuredChild | None:
        """The optimum of the search's scores; None where it was not measured."""
        return next((child for child in self.children if child.origin == "optimum"), None)


class RefinedPoint(Frozen):
    """The children that were measured at one point of a frontier, whose bound is `target`, or `ratio` of the parent's.

    Without a `refinement` no child meets the bound.
    """

    target: float
    ratio: float | None = None
    refinement: Refinement | None = None


class RefinedFrontier(Artefact):
    """`build/refined/FRONTIER.json`: measured children at every point of a frontier, in sweep order."""

    frontier: str
    search: str
    points: tuple[RefinedPoint, ...]


# ---------------------------------------------------------------- why


class Regret(Frozen):
    """Rise of the optimum with one alternative fixed in one sub-block, and all else chosen anew.

    In the unit of the objective. It is proven to be `at_least`, and a verified child has `at_most`; both are equal if it is
    exact. Both None: no child with it meets the requirements. `at_most` alone None: no child with it was found in time.
    """

    alternative: str
    at_least: float | None
    at_most: float | None


class SubBlockRegrets(Frozen):
    """The regrets of one sub-block's alternatives, in the order of the space. `chosen` is the optimum's: its regret is 0."""

    layer: int
    sub_block: Literal["attention", "ffn"]
    chosen: str
    regrets: tuple[Regret, ...]


class Move(Frozen):
    """A requirement's bound moved, and how much worse the optimum gets (negative: better), as a `Regret` says it.

    "tighter" and "looser" are away from and towards what could be had without it; "up" and "down" are an equation's; "without"
    drops it. `by`: "1 %", or "1" for a requirement that counts. `bound` is the new one, in base units or times the parent's.
    """

    kind: Literal["tighter", "looser", "up", "down", "without"]
    by: str = ""
    bound: float | None = None
    at_least: float | None
    at_most: float | None


class Margin(Frozen):
    """Price of one `require`. Moves that time did not suffice for are left out."""

    line: int
    text: str
    because: str = ""
    moves: tuple[Move, ...]


class WhyResult(Artefact):
    """`build/why/SEARCH.json`: regrets of every choice, and margins of every requirement.

    `proven`: no child is better than `objective`. `negligible`: a regret up to this value is not worth choosing for.
    """

    search: str
    sense: Literal["minimize", "maximize"]
    objective: float
    proven: bool
    negligible: float
    sub_blocks: tuple[SubBlockRegrets, ...]
    margins: tuple[Margin, ...] = ()


# ---------------------------------------------------------------- child


class LayerDefinition(Frozen):
    """One layer of a child. A piece is a job id of the library; None for parent and noop."""

    attention: AttentionAlternative
    ffn: FfnAlternative
    attention_piece: str | None = None
    ffn_piece: str | None = None
    block_piece: str | None = None  # coupled: holds both


class ModelDefinition(Artefact):
    """`build/models/SEARCH/definition.json`: all that is needed to assemble a child."""

    name: str
    search: str
    parent: str
    layers: tuple[LayerDefinition, ...]


# ---------------------------------------------------------------- evaluation


class Figure(Frozen):
    """A measured number with its standard error, where that is meaningful."""

    value: float
    stderr: float | None = None
    unit: str = ""


class ModelFigures(Frozen):
    """Figures measured of one model.

    Keys: params, checkpoint_bytes, kl, perplexity, top1_agreement (also top5, top10), hellaswag (accuracy),
    SCENARIO.prefill_tokens_per_s, SCENARIO.decode_tokens_per_s, SCENARIO.latency_s, SCENARIO.throughput.
    `texts`: kl, perplexity and agreement on each data that the evaluation names; `figures` has those of the first.
    """

    model: str  # "parent", a search's name, an uptrain's name
    figures: dict[str, Figure]
    texts: dict[str, dict[str, Figure]] = {}


class Interval(Frozen):
    """An estimate with its 95 % confidence interval (None: one sample gives none)."""

    value: float
    low: float | None = None
    high: float | None = None


class Paired(Frozen):
    """Figure of a child beside that of its parent on the same items or blocks.

    It is given as child - parent, and as child / parent (None if that of the parent is 0).
    """

    difference: Interval
    ratio: Interval | None = None


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
    """A model's greedy answer to a prompt. `repetition`: the share of its runs of 4 tokens that it has said before."""

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

    `accuracy_preserved`: the mean of its tasks as a share of the parent's mean (Puzzle, table 2), None without tasks.
    `kept`: by task, and `pooled` over them. `text_gap`: None if its texts agree. `repetition`: None if it answered no prompts.
    """

    model: str
    paired: dict[str, Paired]
    accuracy_preserved: Interval | None = None
    kept: dict[str, Kept] = {}
    text_gap: TextGap | None = None
    repetition: Repetition | None = Field(default=None, exclude_if=lambda found: found is None)


class Evaluation(Artefact):
    """`build/evals/NAME.json`: parent first, then children, measured in one run on the same data.

    `texts`: the data, in the order of the declaration.
    """

    eval: str
    texts: tuple[str, ...] = ()
    models: tuple[ModelFigures, ...]
    comparisons: tuple[ModelComparison, ...] = ()
    answers: tuple[AnsweredPrompt, ...] = Field(default=(), exclude_if=lambda answers: not answers)


# ---------------------------------------------------------------- text that a parent writes


class WrittenText(Frozen):
    """A line of `build/sampled/*.jsonl`: a document's tokens, of which the first `prompt` were given, and the same as text."""

    ids: tuple[int, ...]
    prompt: int
    text: str


# ---------------------------------------------------------------- what failed


class Problem(Frozen):
    """A mistake that a task failed with."""

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


# ---------------------------------------------------------------- engines we did not write

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
    error: float | None = Field(default=None, exclude_if=lambda error: error is None)
    own_error: float | None = Field(default=None, exclude_if=lambda error: error is None)


class EngineSpeed(Frozen):
    """One model in one engine: bytes of its weights there, and tokens a second of one sequence (median of the rounds)."""

    model: Literal["parent", "child"]
    engine: EngineName
    version: str
    dtype: str
    weights_bytes: int
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    text: str = ""


class EngineCheck(Artefact):
    """`build/engines/NAME.json`: a child in the engines of this machine. Speeds are of `prompt` and `output` tokens."""

    name: str
    results: tuple[EngineResult, ...]
    speeds: tuple[EngineSpeed, ...] = ()
    prompt: int = 0
    output: int = 0
    threads: int = 1


class TextCounts(Frozen):
    """Text of one source as it was tokenised: what was kept, and what was left out.

    `source`: its node (ir.nodes) as JSON. `learned_tokens`: those that losses count. `duplicates`: exact copies of documents,
    left out if `copies_dropped`. `other_part`: documents outside `part`. `unanswered`: conversations without an answer.
    `cut_tokens`: tokens of the last document behind `take`; `stopped`: `take` ended the stream.
    """

    name: str
    source: str
    documents: int = 0
    tokens: int = 0
    learned_tokens: int = 0
    duplicates: int = 0
    copies_dropped: bool = False
    other_part: int = 0
    unanswered: int = 0
    cut_tokens: int = 0
    stopped: bool = False
