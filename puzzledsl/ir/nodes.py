"""Meaning of a program, after names, types, units and overrides are resolved.

Frozen pydantic; byte-identical for the same source.

Guarantees to later stages: every name refers to something declared; every layer has at least one alternative a sub-block;
every quantity is exact in base units (bytes, seconds, FLOP, tokens, or a plain number); expressions in searches are linear.
Declarations are dictionaries keyed by name; `where` remembers the order of the source. What a search says is in
`search_nodes`, and is had from here as well.
"""

from __future__ import annotations

import hashlib
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Field

from puzzledsl.alternatives.alternative import SubBlock
from puzzledsl.alternatives.computation import USUAL, Computation
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.alternatives.shape import Initialisers, Shape
from puzzledsl.base.frozen import Frozen
from puzzledsl.ir.base import FORMAT_VERSION, Artefact, Exact
from puzzledsl.ir.search_nodes import (
    BASELINES,
    And,
    Baseline,
    BaselineKind,
    Cardinality,
    CountTerm,
    CpSat,
    FactTerm,
    Frontier,
    Implies,
    Is,
    Linear,
    LinearRequirement,
    Logic,
    LogicRequirement,
    MetricTerm,
    Not,
    Or,
    ParamsTerm,
    Preference,
    Refine,
    Requirement,
    ScoreTerm,
    Search,
    TableTerm,
    Term,
    WeightedTerm,
)
from puzzledsl.ir.source_location import Where
from puzzledsl.language.engines import TORCH

__all__ = [  # of a search
    "BASELINES",
    "And",
    "Baseline",
    "BaselineKind",
    "Cardinality",
    "CountTerm",
    "CpSat",
    "FactTerm",
    "Frontier",
    "Implies",
    "Is",
    "Linear",
    "LinearRequirement",
    "Logic",
    "LogicRequirement",
    "MetricTerm",
    "Not",
    "Or",
    "ParamsTerm",
    "Preference",
    "Refine",
    "Requirement",
    "ScoreTerm",
    "Search",
    "TableTerm",
    "Term",
    "WeightedTerm",
    "Where",
    # of all else
    "Shape",
    "HfSource",
    "ShapeSource",
    "Parent",
    "Picked",
    "Rows",
    "TextData",
    "JsonlData",
    "ParquetData",
    "HfData",
    "SampledData",
    "TaskData",
    "MixPart",
    "MixData",
    "Data",
    "GqaDecode",
    "RooflineHardware",
    "MeasuredHardware",
    "TableHardware",
    "Hardware",
    "Scenario",
    "LayerChoice",
    "Initialisers",
    "Rounding",
    "UsedBy",
    "Space",
    "Schedule",
    "Bld",
    "ReplaceOne",
    "ScoreFromTable",
    "Score",
    "Uptrain",
    "Eval",
    "Export",
    "Program",
]


# ---------------------------------------------------------------- parent, data, hardware, scenario


class HfSource(Frozen):
    """A checkpoint: a hub id, or a directory (absolute, or relative to the `.pzl` file)."""

    kind: Literal["hf"] = "hf"
    id: str
    revision: str | None = None


class ShapeSource(Frozen):
    """No checkpoint: only the shape is known."""

    kind: Literal["shape"] = "shape"


class Parent(Frozen):
    """The model that is taken apart."""

    name: str
    source: Annotated[HfSource | ShapeSource, Field(discriminator="kind")]
    shape: Shape
    computation: Computation = Field(default=USUAL, exclude_if=lambda found: found == USUAL)
    doc: str = ""
    where: Where


def _unset(value: object) -> bool:
    return value is None


class Picked(Frozen):
    """Documents that a source gives: all of them unless said otherwise.

    `part`: those whose content's digest, as a share of all digests, lies from the first bound up to below the second; equal
    documents are in the same part. `take`: the first so many tokens. `duplicates`: what becomes of exact copies of a document;
    None stands for "keep" of text files, whose documents are paragraphs, and for "drop" of all other sources.
    """

    part: tuple[Exact, Exact] | None = Field(default=None, exclude_if=_unset)
    take: int | None = Field(default=None, exclude_if=_unset)
    duplicates: Literal["drop", "keep"] | None = Field(default=None, exclude_if=_unset)


class TextData(Picked):
    """Text files by glob (relative to the `.pzl` file); blank lines separate documents."""

    kind: Literal["text"] = "text"
    paths: tuple[str, ...]


class Rows(Picked):
    """Documents in records: a text in `column`, or a conversation in the field `messages`. `loss`: its tokens that count."""

    messages: str | None = Field(default=None, exclude_if=_unset)
    loss: Literal["all", "answers"] = Field(default="all", exclude_if=lambda learnt: learnt == "all")


class JsonlData(Rows):
    """One document a line."""

    kind: Literal["jsonl"] = "jsonl"
    paths: tuple[str, ...]
    column: str = "text"


class ParquetData(Rows):
    """One document a row of Parquet files."""

    kind: Literal["parquet"] = "parquet"
    paths: tuple[str, ...]
    column: str = "text"


class HfData(Rows):
    """A data set of the hub, or a local directory of the same form."""

    kind: Literal["hf"] = "hf"
    id: str
    split: str = "train"
    column: str = "text"
    subset: str | None = Field(default=None, exclude_if=_unset)
    revision: str | None = Field(default=None, exclude_if=_unset)


class SampledData(Picked):
    """Text that a parent writes itself: documents of at most `length` new tokens until there are `tokens`.

    Each goes on from a prompt of the file `prompts` in turn, or from nothing. `top_k`: a token is drawn from so many likeliest
    ones (None: from all). `dtype`: of the computation (None: the machine's).
    """

    kind: Literal["sampled"] = "sampled"
    parent: str
    tokens: int
    temperature: float = 1.0
    prompts: str | None = None
    length: int = 512
    top_k: int | None = None
    seed: int = 0
    dtype: Literal["fp32", "bf16"] | None = None

    @property
    def text(self) -> str:
        """Name of the text that it stands for, whichever of its documents are picked: `smollm-3f2a1b…`."""
        written = self.model_dump_json(exclude={"part", "take", "duplicates"})
        return f"{self.parent}-{hashlib.sha256(written.encode()).hexdigest()[:16]}"


class TaskData(Picked):
    """Questions of multiple-choice task files by glob, each with its right answer."""

    kind: Literal["tasks"] = "tasks"
    paths: tuple[str, ...]


PlainData = Annotated[
    TextData | JsonlData | ParquetData | HfData | SampledData | TaskData, Field(discriminator="kind")
]


class MixPart(Frozen):
    """One of the texts of a mix. Its share of the blocks is `weight` over the sum of all weights.

    `name`: of its declaration; its text in the program if it is `inline` and has none.
    """

    name: str
    weight: int
    source: PlainData
    inline: bool = Field(default=False, exclude_if=lambda inline: not inline)


class MixData(Frozen):
    """Blocks of several texts in fixed proportions; no part is a mix itself."""

    kind: Literal["mix"] = "mix"
    parts: tuple[MixPart, ...]


class Data(Frozen):
    """Text to train or score on."""

    name: str
    source: Annotated[
        TextData | JsonlData | ParquetData | HfData | SampledData | TaskData | MixData,
        Field(discriminator="kind"),
    ]
    doc: str = ""
    where: Where


class GqaDecode(Frozen):
    """Decode attention as measured: `seconds` to read `tokens` cached tokens of all sequences, by KV heads a GPU."""

    tokens: int
    seconds: dict[int, Exact]


class RooflineHardware(Frozen):
    """An analytic profile. Bandwidths in bytes/s, peaks in FLOP/s, times in seconds, sizes in bytes; each GPU's own."""

    kind: Literal["roofline"] = "roofline"
    profile: str
    gpus: int = 1
    expert_parallel: int = Field(
        default=1, exclude_if=lambda groups: groups == 1
    )  # groups of GPUs that experts are shared out to; inside a group they are split by channels
    memory_bytes: int
    bandwidth_bytes_per_s: Exact
    flop_per_s: dict[str, Exact]  # dense peak by dtype: bf16, fp8, fp32 …
    link_bytes_per_s: Exact = Fraction(0)
    dtype: str = "bf16"  # weights
    expert_dtype: str | None = Field(
        default=None, exclude_if=lambda dtype: dtype is None
    )  # of experts (None: as the other weights)
    activation_dtype: str | None = None  # what matrices are multiplied in (None: the weights')
    kv_dtype: str = "bf16"
    embedding_dtype: str = "bf16"  # embedding, norms and biases
    head_dtype: str | None = None  # (None: the embedding's)
    efficiency_compute: Exact
    efficiency_experts: Exact | None = Field(
        default=None, exclude_if=lambda share: share is None
    )  # of a mixture's experts, whose matrices are small (None: as other matrices)
    efficiency_bandwidth: Exact
    efficiency_attention: Exact
    efficiency_link: Exact
    overhead_s: Exact  # per sub-block per forward
    link_latency_s: Exact  # per other GPU per all-reduce
    reserve_bytes: int
    kv_fraction: Exact
    kv_policy: Literal["full", "mean"] = (
        "full"  # a sequence's pages: for its full length, or the mean over its life
    )
    page_tokens: int
    max_batch: int
    gqa_decode: GqaDecode | None = None
    engine: str = ""  # what the constants stand for: "TensorRT-LLM 1.0"
    calibration: str = ""  # what they were fitted to
    calibration_error: Exact | None = None  # mean absolute error of predictions held out, as a share
    usd_per_s: Exact | None = Field(default=None, exclude_if=lambda price: price is None)  # of one GPU
    watts: Exact | None = Field(default=None, exclude_if=lambda power: power is None)


class MeasuredHardware(Frozen):
    """Costs come from `pzl measure` on this machine, in an engine: one of `language.engines`."""

    kind: Literal["measured"] = "measured"
    device: str = "cpu"
    dtype: str = "fp32"
    gpus: int = 1
    memory_bytes: int | None = None
    usd_per_s: Exact | None = Field(default=None, exclude_if=lambda price: price is None)
    watts: Exact | None = Field(default=None, exclude_if=lambda power: power is None)
    engine: str = Field(default=TORCH, exclude_if=lambda engine: engine == TORCH)
    threads: int | None = Field(default=None, exclude_if=lambda threads: threads is None)


class TableHardware(Frozen):
    """Costs measured elsewhere."""

    kind: Literal["table"] = "table"
    path: str


class Hardware(Frozen):
    """Hardware that the child must run on."""

    name: str
    spec: Annotated[RooflineHardware | MeasuredHardware | TableHardware, Field(discriminator="kind")]
    doc: str = ""
    where: Where


class Scenario(Frozen):
    """A workload on a hardware: `batches` has one entry, several (a decision), or none (`auto`)."""

    name: str
    hardware: str
    batches: tuple[int, ...]
    prompt: int
    output: int
    doc: str = ""
    where: Where


# ---------------------------------------------------------------- space


class LayerChoice(Frozen):
    """Alternatives of one layer, in the order written; a parent-equal alternative is `parent`."""

    attention: tuple[AttentionAlternative, ...]
    ffn: tuple[FfnAlternative, ...]

    def with_parent(self) -> LayerChoice:
        """Return the choice with the parent's sub-blocks in it, at the end where it lacks them."""
        return LayerChoice.model_construct(
            attention=tuple(dict.fromkeys((*self.attention, ParentAttention()))),
            ffn=tuple(dict.fromkeys((*self.ffn, ParentFfn()))),
        )

    @classmethod
    def of_parent(cls) -> LayerChoice:
        """Return the choice of a layer that stays as it is."""
        return cls(attention=(ParentAttention(),), ffn=(ParentFfn(),))

    def by_name(self) -> tuple[dict[str, AttentionAlternative], dict[str, FfnAlternative]]:
        """Return the alternatives by canonical name, the parent's among them."""
        full = self.with_parent()
        return {a.name: a for a in full.attention}, {f.name: f for f in full.ffn}


class Rounding(Frozen):
    """A width that was rounded: `asked` is the source text, `exact` the channels it meant, `width` what it became."""

    asked: str
    exact: Exact
    width: int
    where: Where


class UsedBy(Frozen):
    """A sub-space of what a search's `top` best solutions use; its layers are known once the search is solved."""

    search: str
    top: int


class Space(Frozen):
    """Alternatives of every layer."""

    name: str
    parent: str
    layers: tuple[LayerChoice, ...]
    init: Initialisers = Initialisers()
    used_by: UsedBy | None = None
    roundings: tuple[Rounding, ...] = ()
    doc: str = ""
    where: Where


# ---------------------------------------------------------------- bld, score


class Schedule(Frozen):
    """A learning rate: linear warm-up over `warmup` of the steps, then `kind`."""

    kind: Literal["cosine", "constant"] = "cosine"
    peak: float
    warmup: float = 0.0  # fraction of the steps


class Bld(Frozen):
    """Blockwise local distillation. `tokens` is the budget of each job.

    Children of its pieces are healed on `heal_tokens` of `heal_data` (of `data` where that is None); with 0 they are not.
    """

    name: str
    space: str
    mode: Literal["decoupled", "coupled"]
    sub_blocks: tuple[SubBlock, ...] = ("attention", "ffn")
    tokens: int
    context: int = 2048
    batch: int = 1
    lr: Schedule
    loss: Literal["normalized_mse", "mse", "cosine"] = "normalized_mse"
    data: str | None = None
    calibration_tokens: int = 16384
    heal_tokens: int = 24576
    heal_data: str | None = None
    seed: int = 0
    doc: str = ""
    where: Where


class ReplaceOne(Frozen):
    """Replace one block of the parent at a time and compare. `samples` counts scored token positions."""

    kind: Literal["replace_one"] = "replace_one"
    metric: Literal["kl_divergence", "lm_loss", "cosine", "top_k_agreement", "accuracy"]
    samples: int = 4096
    tasks: str | None = None  # JSONL path, for accuracy
    top_k: int | None = None  # tokens that are compared, for top_k_agreement
    unit: Literal["subblock", "block"] = "subblock"
    children: int = 0  # measured whole, and fitted to
    runs: tuple[int, int] | None = None  # consecutive layers that are dropped together: from, to
    healed: int = 0  # tokens that the layer behind each replacement is healed on before it is scored
    around: str | None = None
    rounds: int = 1
    data: str | None = None


class ScoreFromTable(Frozen):
    """Scores made elsewhere: long-format CSV or Parquet."""

    kind: Literal["table"] = "table"
    path: str


class Score(Frozen):
    """Loss of each alternative. Lower is better: of `accuracy` and `top_k_agreement` a table holds the drop."""

    name: str
    bld: str | None
    space: str
    method: Annotated[ReplaceOne | ScoreFromTable, Field(discriminator="kind")]
    doc: str = ""
    where: Where


# ---------------------------------------------------------------- uptrain, eval, export


class Uptrain(Frozen):
    """Global knowledge distillation of a search's best child. Weights of the three losses.

    `micro_batch`: blocks of one forward (None: as many as are reasonable). `dtype`: of matrix products (None: bf16 where the
    device multiplies it faster, fp32 elsewhere). `ema`: decay of the average of the weights (0: none is kept). `recompute`:
    gradient checkpointing. `fits_child`: the peak of `lr` is lowered for a child that is near its parent. `keep`: the weights
    that are written, the best of those evaluated or the last ones.
    """

    name: str
    search: str
    kld: float = 0.0
    cosine: float = 0.0
    lm: float = 0.0
    tokens: int
    context: int = 2048
    batch: int = 1
    lr: Schedule
    fits_child: bool = False
    data: str | None = None
    seed: int = 0
    micro_batch: int | None = None
    dtype: Literal["fp32", "bf16"] | None = None
    ema: float = 0.0
    recompute: bool = False
    keep: Literal["best", "last"] = Field(default="best", exclude_if=lambda keep: keep == "best")
    doc: str = ""
    where: Where


class Prompts(Frozen):
    """Prompts for parent and child: those of a file, or `texts`; neither: none."""

    path: str | None = None
    texts: tuple[str, ...] = ()


class Eval(Frozen):
    """Evaluation of the parent and the child. `of` names an uptrain or a search.

    `tasks`: files. `lm_eval`: names of lm-evaluation-harness tasks; `shots`: examples before each of their questions.
    `data`, then `more_data`: the texts that models are compared on, each by itself. `full`: the children that answer the
    tasks and are timed (none named: that of `of` and the untrained one it came from); of the others KL and perplexity.
    `dtype`: in which models answer tasks (None: the one they are compared in). `prompts`: what models in full answer side by
    side (None: three prompts from the first text).
    """

    name: str
    of: str
    tasks: tuple[str, ...] = ()
    lm_eval: tuple[str, ...] = ()
    shots: int | None = None
    items: int | None = None
    data: str | None = None
    more_data: tuple[str, ...] = ()
    tokens: int = 8192
    full: tuple[str, ...] = ()
    dtype: Literal["fp32", "bf16"] | None = None
    prompts: Prompts | None = Field(default=None, exclude_if=lambda prompts: prompts is None)
    doc: str = ""
    where: Where


class Export(Frozen):
    """A checkpoint for a runtime. `of` names an uptrain or a search.

    `lower` says whether what the runtime lacks may be rewritten exactly (None: it may, with a warning). `runtime_where` is
    where the runtime is named, or the whole declaration.
    """

    name: str
    of: str
    path: str
    format: Literal["hf", "gguf", "mlx"] = "hf"
    runtime: str = "transformers"
    dtype: str | None = None
    lower: bool | None = None
    doc: str = ""
    where: Where
    runtime_where: Where


class Program(Artefact):
    """A whole `.pzl` program: `build/ir.json`. `source` is the file's name, `params` the values `--set` gave or the defaults."""

    source: str
    params: dict[str, str] = {}
    parents: dict[str, Parent] = {}
    data: dict[str, Data] = {}
    hardware: dict[str, Hardware] = {}
    scenarios: dict[str, Scenario] = {}
    spaces: dict[str, Space] = {}
    blds: dict[str, Bld] = {}
    scores: dict[str, Score] = {}
    searches: dict[str, Search] = {}
    frontiers: dict[str, Frontier] = {}
    uptrains: dict[str, Uptrain] = {}
    evals: dict[str, Eval] = {}
    exports: dict[str, Export] = {}


def program_schema() -> dict[str, Any]:
    """The JSON schema of `build/ir.json`, with the dialect and the version it has."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:puzzledsl:schema:ir-{FORMAT_VERSION}",
        **Program.model_json_schema(mode="serialization"),
    }
