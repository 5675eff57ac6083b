"""Every kind of JSON document that puzzledsl writes: the build directory's files, then the `--json` outputs.

For `pzl schema` and docs/artefacts.md. Files have the models that read them; outputs, which nothing reads, are described here.
"""

from __future__ import annotations

import re
from fnmatch import translate
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, RootModel, TypeAdapter, create_model

from puzzledsl.alternatives.alternative import EndName
from puzzledsl.base.frozen import record
from puzzledsl.changes.compare import Pieces
from puzzledsl.ir import tables
from puzzledsl.ir.base import FORMAT_VERSION
from puzzledsl.ir.nodes import Program
from puzzledsl.pipeline.compile import Compiled
from puzzledsl.pipeline.process.locks import Holder
from puzzledsl.pipeline.stamps import Stamp
from puzzledsl.plan.memory.stage_plan import Choice

TYPES = (Choice, EndName, Pieces)
"""Types of the program that the texts of fields name."""
DEFAULTS: dict[str, object] = {"": ..., "None": None, "{}": {}}


class Output(BaseModel):
    """Content of a document that is not read back. A field with a default may be absent."""

    model_config = ConfigDict(extra="forbid")


def document(name: str, about: str, fields: str, base: type[BaseModel] = Output) -> Any:
    """Return the model of a document, or of a part of one, by its fields as a class has them, with `;` between."""
    kinds: dict[str, Any] = {}
    for each in " ".join(fields.split()).split("; "):
        key, _, kind = each.partition(": ")
        kind, _, default = kind.partition(" = ")
        kinds[key] = (kind, DEFAULTS[default])
    return create_model(name, __base__=base, __doc__=about, __module__=__name__, **kinds)


# ---------------------------------------------------------------- about a program

Place = document(
    "Place", "A place in a text: 1-based, in code points. The end is exclusive.", "line: int; column: int"
)
Related = document(
    "Related",
    "A second place of a diagnostic, or a note; a note has no place.",
    "message: str; file: str | None; start: Place | None; end: Place | None",
)
OneDiagnostic = document(
    "OneDiagnostic",
    "One mistake or warning. `help`: the cure, empty where there is none.",
    """code: str; severity: Literal["error", "warning"]; message: str; file: str | None; start: Place | None;
    end: Place | None; help: str; related: list[Related]""",
)
Diagnostics = document(
    "Diagnostics",
    "Mistakes and warnings of a program, by place.",
    "format_version: str; diagnostics: list[OneDiagnostic]",
)
AlternativeFacts = document(
    "AlternativeFacts",
    "An alternative. Sizes that its sub-block does not have are absent; `layers` are given where layers differ.",
    """name: str; heads: int | None = None; kv_heads: int | None = None; window: int | None = None;
    width: int | None = None; experts: int | None = None; top_k: int | None = None; params: int | None = None;
    active_params: int | None = None; rounded_from: dict[str, str] | None = None; layers: list[int] | None = None""",
)
LayerNames = document(
    "LayerNames",
    "Canonical names of the alternatives of one layer.",
    "layer: int; attention: list[str]; ffn: list[str]",
)
ShownSpace = document(
    "ShownSpace",
    """A space after its overrides. `waits_for`: the search that narrows it, while that is not solved.

    `ends`: the alternatives of the model's ends, where they have a choice.""",
    """name: str; parent: str; log10_children: float; layers: list[LayerNames];
    alternatives: dict[Literal["attention", "ffn"], list[AlternativeFacts]];
    ends: dict[EndName, list[str]] | None = None; waits_for: str | None = None""",
)
Spaces = document("Spaces", "Spaces of a program.", "spaces: list[ShownSpace]")
ChangedDetail = document(
    "ChangedDetail",
    "A detail that differs: `old` is null for an addition, `new` for a removal.",
    "what: str; old: str | None; new: str | None",
)
ChangedDeclaration = document(
    "ChangedDeclaration",
    "A declaration that differs.",
    'action: Literal["add", "remove", "change"]; kind: str; name: str; details: list[ChangedDetail]',
)
TaskName = document("TaskName", "Stage and declaration of a task.", "stage: str; name: str")
Counts = document("Counts", "Numbers of changed declarations.", "add: int; change: int; remove: int")
ProgramChanges = document(
    "ProgramChanges",
    "Differences between two programs, and the tasks that run again, in order.",
    """format_version: str; changes: list[ChangedDeclaration]; pieces: dict[str, Pieces]; again: list[TaskName];
    waiting: list[str]; summary: Counts""",
)


class LayerCosts(tables.Cost):
    """Choice and cost of one layer."""

    layer: int
    attention: str
    ffn: str


CostBreakdown = document(
    "CostBreakdown",
    "A model's costs in one scenario. `metrics` in base units; `causes`: seconds by cause, null without a roofline.",
    """model: str; scenario: str; hardware: str; provenance: str; batch: int; prompt: int; output: int;
    metrics: dict[str, float]; parent_metrics: dict[str, float]; reserve_bytes: int; parts: dict[str, tables.Cost];
    causes: dict[Literal["prefill_s", "decode_s"], dict[str, float]] | None; layers: list[LayerCosts]""",
)

# ---------------------------------------------------------------- about searches

AnswerSolution = document(
    "AnswerSolution",
    """One child. `metrics` in base units, with the batch of each scenario as `chat.batch`; `simulated`: latencies under traffic.

    `layers` ends with the choice of the model's ends where the space gives one.""",
    """objective: float; layers: list[tables.Assignment]; metrics: dict[str, float];
    simulated: dict[str, float] = {}""",
)
AnswerConflict = document(
    "AnswerConflict",
    "A requirement of a minimal conflict, and the best value that is reachable when the others are kept.",
    "line: int; text: str; reachable: str",
)
Answer = document(
    "Answer",
    "Answer of a search with its proof. `refine`: settings of measuring children.",
    """search: str; status: Literal["optimal", "feasible", "infeasible", "unknown"]; objective: float | None;
    bound: float | None; gap: float | None; seconds: float; found_by: str; proved_by: str;
    solutions: list[AnswerSolution]; conflict: list[AnswerConflict]; refine: dict[str, Any] | None = None""",
)
NotSolved = document(
    "NotSolved",
    "A search that could not be run, and why; `search` is empty if the program has mistakes.",
    'search: str; status: Literal["error"]; diagnostics: list[OneDiagnostic]',
)
PointAnswer = document(
    "PointAnswer",
    "Answer at one point of a frontier; `target` in the base unit of the swept metric.",
    "target: float",
    Answer,
)
FrontierAnswers = document(
    "FrontierAnswers", "Points of a frontier.", "frontier: str; search: str; points: list[PointAnswer]"
)
Address = document("Address", "Address of the page, with its token.", "address: str")

# ---------------------------------------------------------------- about the pipeline

TaskState = document(
    "TaskState",
    "State of a task: done, or the reason why it is to be done.",
    "stage: str; name: str; state: str; why: str",
)
Status = document(
    "Status",
    "All tasks, the process that works in the build directory, if any, and the texts that are tokenised, by declaration.",
    "at_work: Holder | None; tasks: list[TaskState]; texts: dict[str, list[tables.TextCount]]",
)
MemoryPlan = document(
    "MemoryPlan",
    "Memory of one part of a stage on each of `devices` devices, and on the host beside it, in bytes at the peak.",
    """stage: str; device_bytes: int; parts: dict[str, int]; host_bytes: int; devices: int; planned_seconds: float;
    choices: list[Choice]; fits: bool""",
)
PlannedStep = document(
    "PlannedStep",
    """A task that a run would do. `peak_bytes`: most memory of the process, or of each GPU; 0 where it holds no model.

    `from_log`: it took so long before. `runs`: runs of layers that a score measures.""",
    """seconds: float; from_log: bool; bytes: int; scratch_bytes: int; peak_bytes: int; runs: int | None = None;
    memory: list[MemoryPlan] | None = None""",
    TaskState,
)
PlannedDevice = document(
    "PlannedDevice",
    "The device that memory is planned for.",
    "name: str; count: int; memory_bytes: int; usable_bytes: int; host_bytes: int; dtype: str",
)
DryRun = document(
    "DryRun",
    "Tasks that a run would do, with seconds and bytes of each, and of all.",
    """steps: list[PlannedStep]; done: int; seconds: float; bytes: int; scratch_bytes: int; peak_bytes: int;
    free_bytes: int; device: PlannedDevice""",
)
PieceRow = document(
    "PieceRow",
    "A piece. Losses are normalised MSE on held-out activations; `bytes` is null where the file is gone.",
    """id: str; bld: str; layer: int; sub_block: Literal["attention", "ffn", "block"]; alternative: str;
    loss_initial: float; loss_final: float; tokens: int; bytes: int | None; sha256: str""",
)
Fault = document("Fault", "A piece that is damaged or gone.", "file: str; reason: str")
Verified = document(
    "Verified", "Number of pieces, and those with faults.", "pieces: int; faults: list[Fault]"
)
Collected = document(
    "Collected",
    "Pieces and other files that no job needs; with `dry_run` they are still there.",
    "removed: list[PieceRow]; strays: list[str]; bytes: int; dry_run: bool",
)

# ---------------------------------------------------------------- lines of files


class LogLine(BaseModel):
    """One event of a run: `start`, `progress`, `end`, `fresh` of a task, and what stages report. Events have own fields."""

    model_config = ConfigDict(extra="allow")

    time: str
    event: str
    stage: str | None = None
    name: str | None = None
    seconds: float | None = None
    text: str | None = None


class FiguresKey(Output):
    """The first line: everything that the figures depend on, as JSON in a text."""

    key: str


class FiguresLine(RootModel[FiguresKey | tuple[int, str, str, dict[str, float]]]):
    """The layer, the table, the alternative, and what was measured under each name; the first line is the key."""


UptrainRecord = document(
    "UptrainRecord",
    "Record of an uptraining. KLs to the parent in nats on held-out text; `best_step` is the step whose weights were kept.",
    """uptrain: str; dtype: str; peak_rate: float; steps: int; tokens: int; heldout_tokens: int;
    heldout_kl: dict[str, float]; heldout_kl_before: float; heldout_kl_after: float; best_step: int""",
)


class PieceLine(tables.Piece):
    """A piece, with the first 16 digits of the SHA-256 of the rest of the line, so that a changed one is noticed."""

    check: str


Form = Literal["JSON", "JSON lines", "sealed JSON lines"]
"""A sealed line ends with a tab and the first 16 digits of its SHA-256, so that a torn line is noticed."""


@record
class Described:
    """One kind of document.

    `place`: a file of the build directory with `*` for a name, or `pzl COMMAND`. `kind`: the model, or type, of the document; of
    one line where the form has lines. `about`: a sentence where `kind` has no docstring of its own.
    """

    name: str
    place: str
    kind: Any
    form: Form = "JSON"
    about: str = ""

    @property
    def is_output(self) -> bool:
        """True for the `--json` output of a command."""
        return self.place.startswith("pzl ")

    @property
    def text(self) -> str:
        """Description of the content in a sentence or two."""
        described = self.about or (self.kind.__doc__ or "")
        return " ".join(described.split("\n\n")[0].split())

    def holds(self, relative: str) -> bool:
        """True if a path, relative to the build directory, is of this kind. A `*` matches within one folder."""
        pattern = translate(self.place).replace(".*", "[^/]*")
        return not self.is_output and re.match(pattern, relative) is not None

    @property
    def adapter(self) -> TypeAdapter[Any]:
        """The reader of a document."""
        return TypeAdapter(self.kind)

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema. The same program gives the same bytes."""
        written = isinstance(self.kind, type) and not issubclass(self.kind, Output)
        made = self.adapter.json_schema(mode="serialization" if written else "validation")
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:puzzledsl:schema:{self.name}-{FORMAT_VERSION}",
            **made,
            **({"description": self.about} if self.about else {}),
        }


FILES = (
    Described("ir", "ir.json", Program),
    Described("bld-job", "bld/*.jsonl", tables.BldJob, "JSON lines"),
    Described("costs", "costs/*.json", tables.CostTable),
    Described("piece", "library/index.jsonl", PieceLine, "JSON lines"),
    Described("scores", "scores/*.json", tables.ScoreTable),
    Described("figures", "scores/figures/*.jsonl", FiguresLine, "sealed JSON lines"),
    Described("solution", "solutions/*.json", tables.SearchResult),
    Described("frontier", "search/*.json", tables.FrontierResult),
    Described("refinement", "refined/*.json", tables.Refinement),
    Described("why", "why/*.json", tables.WhyResult),
    Described("evaluation", "evals/*.json", tables.Evaluation),
    Described("engine-check", "engines/*.json", tables.EngineCheck),
    Described("load-check", "load/*.json", tables.LoadCheck),
    Described("uptrain", "models/*/uptrain.json", UptrainRecord),
    Described("stamp", "stamps/*.json", Stamp),
    Described("failure", "failures/*.json", tables.Failure),
    Described("holder", ".holder.json", Holder),
    Described("log", "log.jsonl", LogLine, "JSON lines"),
)
"""Files of a build directory."""


def output(command: str, kind: Any, about: str = "") -> Described:
    """Return the description of the `--json` output of `pzl COMMAND`, named after the command: `pzl-library-ls`."""
    return Described(f"pzl-{command.replace(' ', '-')}", f"pzl {command}", kind, about=about)


OUTPUTS = (
    output("check", Diagnostics),
    output("show", Spaces),
    output("plan", ProgramChanges),
    output("compile", Compiled),
    output("cost", "list[CostBreakdown]", "A breakdown for each scenario and model that was asked for."),
    output(
        "solve",
        "list[Answer | NotSolved]",
        "The answer of each search.",
    ),
    output("why", tables.WhyResult),
    output("explore", Address),
    output("frontier", "list[FrontierAnswers]", "Each frontier with its points."),
    output("run", DryRun),
    output("status", Status),
    output(
        "refine",
        list[tables.Refinement],
        "The files `refined/NAME.json` of the searches and frontiers that were named.",
    ),
    output("verify-export", tables.EngineCheck),
    output(
        "verify-load", list[tables.LoadCheck], "The files `load/SEARCH.json` of the searches that were named."
    ),
    output("library ls", "list[PieceRow]", "Each piece, by layer and sub-block."),
    output("library verify", Verified),
    output("library gc", Collected),
)
"""Outputs of commands with `--json`."""

OTHERS = {
    "search/*.pb": "The CP-SAT model of a search: a binary `CpModelProto` ([how to load it](search.md#the-model-for-or-tools)).",
    "search/*.csv": "A frontier's points, one a row.",
    "search/*.svg": "A frontier as a picture.",
    "costs/*.csv": "Measured costs as a table that `table(…)` reads.",
    "library/*.safetensors": "The weights of one piece, with its job in the header.",
    "models/*/": "A child: a checkpoint that transformers loads, with its own README.md.",
    "tokens/*.npy": "Tokenised text, by digest: a NumPy array with a SHA-256 of its content at the end.",
    "evals/units/": "Results of models on texts and tasks, sealed, which later evaluations take.",
    "work/": "Unfinished work, from which a stage resumes; removed when it ends. Its layout may change with any version.",
    "report.html": "The report, one page without further files.",
    "ladder-EVAL.svg": "A child beside the files of an engine's own quantiser: speed against KL divergence, from the report.",
}
"""Files of a build directory that are not JSON, or not ours: path -> content, in Markdown."""

DESCRIBED = {each.name: each for each in (*FILES, *OUTPUTS)}
