"""Answers of a search with their proof, regrets, children measured around it; pieces of the library and what is made of them."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal, Self

from puzzledsl.alternatives.alternative import ENDS, EndName, Site
from puzzledsl.alternatives.precision import PrecisionName
from puzzledsl.alternatives.registry import AttentionAlternative, FfnAlternative
from puzzledsl.base.frozen import Frozen, left_out
from puzzledsl.ir.base import Artefact
from puzzledsl.ir.nodes import Schedule
from puzzledsl.ir.tables.evaluations import Figure


class LayerAssignment(Frozen):
    """Canonical names of one layer's choice."""

    attention: str
    ffn: str


class EndsAssignment(Frozen):
    """Canonical names of the choice of a model's ends. A child has it after its layers' choices if its space offers one."""

    embedding: str
    head: str

    @property
    def name(self) -> str:
        """Key of both in cost tables."""
        return f"{self.embedding}/{self.head}"

    @property
    def types(self) -> dict[EndName, PrecisionName]:
        """The storage type of each end that has one of its own; ends that are as in the parent are left out."""
        found = {site: getattr(self, site).partition("@")[2] for site in ENDS}
        return {site: dtype for site, dtype in found.items() if dtype}

    @classmethod
    def of(cls, name: str) -> Self:
        """Return the assignment of a key of cost tables, as `name` gives it."""
        embedding, _, head = name.partition("/")
        return cls(embedding=embedding, head=head)


Assignment = LayerAssignment | EndsAssignment
PARENT = LayerAssignment(attention="parent", ffn="parent")
PARENT_ENDS = EndsAssignment(embedding="parent", head="parent")


def written(layer: int, choice: Assignment) -> str:
    """Return a choice as text: `12/gqa1/mlp96`, or of the ends `embedding=parent/head=parent@q4_0`."""
    if isinstance(choice, LayerAssignment):
        return f"{layer}/{choice.attention}/{choice.ffn}"
    return f"embedding={choice.embedding}/head={choice.head}"


def layers_of_child(child: Sequence[Assignment]) -> tuple[LayerAssignment, ...]:
    """Return the choices of a child's layers."""
    return tuple(choice for choice in child if isinstance(choice, LayerAssignment))


def ends_of_child(child: Sequence[Assignment]) -> EndsAssignment:
    """Return the choice of a child's ends; the parent's where its space gives none."""
    last = child[-1] if child else PARENT_ENDS
    return last if isinstance(last, EndsAssignment) else PARENT_ENDS


class Solution(Frozen):
    """One verified answer. `objective` is exact in the units of the tables; `metrics` in base units, with the parent's beside.

    `layers` ends with the choice of the model's ends where the space gives one. Under traffic, `batches` are sequences that
    run: of `busy`, at the 95th percentile (`busy@p95`), and at most (`busy@full`).
    """

    objective: float
    layers: tuple[Assignment, ...]
    batches: dict[str, int] = {}
    metrics: dict[str, float] = {}  # "chat.memory" -> bytes, "params" -> count, "kl" -> score …
    simulated: dict[str, float] = left_out({})  # "busy.p95_ttft" -> seconds, by simulating traffic

    @property
    def of_layers(self) -> tuple[LayerAssignment, ...]:
        """The choices of the layers alone."""
        return layers_of_child(self.layers)

    @property
    def ends(self) -> EndsAssignment:
        """The choice of the model's ends; the parent's where the space gives none."""
        return ends_of_child(self.layers)

    @property
    def figures(self) -> dict[str, float]:
        """Metrics in base units, and the batch of every scenario as `chat.batch`."""
        own = {f"{name}.batch": float(batch) for name, batch in self.batches.items() if "@" not in name}
        return {**self.metrics, **own}


class ConflictItem(Frozen):
    """Requirement in a minimal conflict.

    `reachable`: its best value with the others of the set kept, which some model reaches; empty for a statement about layers.
    """

    line: int
    text: str
    because: str = ""
    reachable: str
    proven: bool = True  # that no more is reachable, to the last digit shown
    # dropping this one alone makes the whole search satisfiable (None: not decided)
    frees: bool | None = None


class Change(Frozen):
    """A requirement with another bound, as the user would write it. `bound` None: the requirement is dropped."""

    line: int
    text: str
    bound: str | None


class Relaxation(Frozen):
    """The least that must change so that an infeasible search has a solution, and the verified solution that shows it."""

    changes: tuple[Change, ...]
    objective: float
    layers: tuple[Assignment, ...]


class SearchResult(Artefact):
    """`build/solutions/SEARCH.json`: the answer of a search with its proof.

    `bound` is a proven bound on the objective; `gap` is relative. "optimal" means proven within the gap that was asked for;
    `unknown` has no solution, and the bound that was proven before time ran out.
    `conflict_minimal`: every requirement of the conflict was shown to be needed for it. `found_by` and `proved_by` name the part
    of the search that found the first solution and the one that ended the proof (or has the best bound).
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

    @property
    def layers(self) -> tuple[LayerAssignment, ...]:
        """The choices of the best child's layers; empty without a solution."""
        return self.solutions[0].of_layers if self.solutions else ()

    @property
    def ends(self) -> EndsAssignment:
        """The choice of the best child's ends; the parent's without a solution."""
        return self.solutions[0].ends if self.solutions else PARENT_ENDS

    @property
    def metrics(self) -> dict[str, float]:
        """The best child's metrics in base units, and its batches; empty without a solution."""
        return self.solutions[0].figures if self.solutions else {}


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
    sub_block: Site
    chosen: str
    regrets: tuple[Regret, ...]


class Move(Frozen):
    """A requirement's bound moved, and how much worse the optimum gets (negative: better), as a `Regret` says it.

    A bound moves "tighter" or "looser", that of an equation "up" or "down"; "without" drops the requirement. `by`: "1 %", or "1"
    if it counts layers. `bound`: the new one, in base units or times the parent's; None if it is dropped or there are several.
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


class WhyResult(Frozen):
    """Regrets of every choice, and margins of every requirement: what `pzl why --json` prints.

    `proven`: no child is better than `objective`. `negligible`: a regret up to this value is not worth choosing for.
    """

    search: str
    sense: Literal["minimize", "maximize"]
    objective: float
    proven: bool
    negligible: float
    sub_blocks: tuple[SubBlockRegrets, ...]
    margins: tuple[Margin, ...] = ()


class MeasuredChild(Frozen):
    """Child that was built, healed and measured.

    `predicted`, with its standard error, is the prediction of the score model before the measurement; `measured` is its score.
    Both are in the unit of the score. `judged`: what judges measured, by `JUDGE.FIGURE`; `missed`: the requirements on that which
    the child does not meet; `objective`: of a judged child, its own.

    `origin`: "optimum" of the search's scores, of refitted scores ("model"), or of scores drawn around these ("drawn").
    """

    layers: tuple[Assignment, ...]
    origin: Literal["optimum", "model", "drawn"]
    predicted: float
    predicted_stderr: float
    measured: float
    judged: dict[str, Figure] = left_out({})
    objective: float | None = left_out(None)
    missed: tuple[str, ...] = left_out(())


class Refinement(Artefact):
    """`build/refined/SEARCH.json`: children measured around the optimum of the scores, in the order measured.

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
    model_optimum: tuple[Assignment, ...]
    model_prediction: float
    proven: float

    def __post_init__(self) -> None:
        """Raise ValueError if the solution is not one of the measured children."""
        if all(child.layers != self.solution.layers for child in self.children):
            raise ValueError("the solution of a refinement is one of the children that were measured")

    @property
    def best(self) -> MeasuredChild:
        """The child of the solution."""
        return next(child for child in self.children if child.layers == self.solution.layers)

    @property
    def optimum(self) -> MeasuredChild | None:
        """The optimum of the search's scores; None where it was not measured."""
        return next((child for child in self.children if child.origin == "optimum"), None)


class BldJob(Frozen):
    """One piece to make: initialise from the parent's layer, then train alone against the parent's outputs.

    Decoupled jobs have one of `attention`, `ffn`; coupled jobs have both. The job of a head that is rounded to
    the type `head` has neither: it is a block behind the last layer. `id` is a digest of everything that determines
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
    head: PrecisionName | None = left_out(None)


class Piece(Artefact):
    """Record of a finished piece in the library. Losses are normalised MSE on held-out activations."""

    job: BldJob
    file: str
    sha256: str
    loss_initial: float
    loss_final: float
    tokens: int


def line_of_piece(piece: Piece) -> bytes:
    """Return a piece as one line of JSON with a checksum and a line end. The same piece gives the same bytes."""
    fields = piece.model_dump(mode="json")
    return _text({**fields, "check": _check(fields)}) + b"\n"


def piece_of_line(line: bytes) -> Piece:
    """Return the piece of a line. Raises ValueError for a line that is no piece, or whose checksum (if any) does not fit."""
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise ValueError("no JSON object")
    check = fields.pop("check", None)
    if check is not None and check != _check(fields):
        raise ValueError("its check does not fit: it was changed or damaged")
    return Piece.model_validate(fields)


def _check(fields: dict[str, Any]) -> str:
    return hashlib.sha256(_text(fields)).hexdigest()[:16]


def _text(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


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
    ends: EndsAssignment = left_out(PARENT_ENDS)
    """Types of the embedding and the head; `parent`: as they are in the parent."""
    head_piece: str | None = left_out(None)
    """The piece with a rounded head's matrix; None: it is rounded to the nearest."""


class LoadRun(Frozen):
    """Requests of one seed at one rate, as simulated with the very arrivals and lengths, and as served.

    Both have `rate` (requests that ended a second) and, in seconds, `ttft`, `tpot` and their `p50_` and `p95_`. The simulation
    takes costs times the machine's pace: how much longer a prompt and a token of a lone request would have taken meanwhile.
    """

    model: Literal["parent", "child"]
    asked: float
    seed: int
    requests: int
    prompt_pace: float
    token_pace: float
    predicted: dict[str, float]
    measured: dict[str, float]


class LoadCheck(Artefact):
    """`build/load/SEARCH.json`: parent and child, of `layers`, under a scenario's traffic, in the engine it is measured in."""

    search: str
    layers: tuple[Assignment, ...]
    scenario: str
    engine: str
    at_most: int
    runs: tuple[LoadRun, ...]
