"""Inputs of refining, and its judges: build a child as it will be built, and measure it on texts that nothing else reads.

A judged child is the checkpoint that `pzl realise` writes: assembled, healed, its ends rounded. What is measured is kept on the
disk as soon as it is known.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import dropwhile
from pathlib import Path

from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.diagnostics import Args, DiagnosticError
from puzzledsl.base.progress import Part
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.child.definition import model_definition
from puzzledsl.child.healing.walk import HealingInputs, healed_weights, healing_text
from puzzledsl.evaluate.bench import Bench
from puzzledsl.evaluate.compare import POOLED, Z, compare
from puzzledsl.evaluate.errors import ParentAtChance
from puzzledsl.evaluate.plan import plan_of
from puzzledsl.evaluate.units import PARENT, EvalWork, Measured, Store, assembled, units_of
from puzzledsl.families.block_configs import Layer
from puzzledsl.ir import tables
from puzzledsl.ir.base import span_of
from puzzledsl.ir.nodes import Eval, Judge, LinearRequirement, Prompts, Refine
from puzzledsl.ir.references import judges_of
from puzzledsl.pieces.store.library import StageInputs, origin
from puzzledsl.plan.flop import JUDGING_TOKENS, HealingWork
from puzzledsl.refining.candidates import Candidates, Figures, Proposal, Proposals
from puzzledsl.scoring.replacements import FiguresCache


@dataclass(frozen=True)
class RefineInputs(StageInputs):
    """Inputs of measuring children of one search, with the jobs of its space's pieces.

    Judged children are healed if `heal`. `healing_work(layers)` gives the folder for a child's healed weights, where the stage
    that builds the child finds them; None: a folder in `work`.
    """

    costs: tables.CostTable = field(kw_only=True)
    scores: Mapping[str, tables.ScoreTable] = field(kw_only=True)
    heal: bool = field(default=True, kw_only=True)
    healing_work: Callable[[Sequence[tables.Assignment]], Path] | None = field(default=None, kw_only=True)

    @property
    def refine(self) -> Refine:
        """The settings of `refine`. Raises ValueError for a search without."""
        refine = self.program.searches[self.name].refine
        if refine is None:
            raise ValueError(f"search {self.name} has nothing to refine")
        return refine

    def candidates(self) -> Candidates:
        """Return the candidate children of the search. Raises DiagnosticError if a table is missing."""
        return Candidates(self.program, self.name, self.costs, self.scores)


METHOD = "1"
"""Version of building and measuring, part of the cache's key."""


class Judges:
    """Measure children of one search by all judges that its requirements name."""

    def __init__(self, inputs: RefineInputs, first: tables.Solution | None = None) -> None:
        """Read the judges' texts and tasks. Each child is estimated to take as long as `first`. Raises DiagnosticError."""
        self._inputs, program = inputs, inputs.program
        self._judges = [_Judge(inputs, judge) for judge in judges_of(program, program.searches[inputs.name])]
        self.samples = self._judges[0].tokens
        """The number of tokens that the first judge compares a child on."""
        self._healed: dict[tuple[tables.Assignment, ...], Path] = {}
        self._healing = self._healing_work(first)
        self._parent = sum(judge.size for judge in self._judges), sum(judge.work for judge in self._judges)
        self._child = self._parent[0] + self._healing[0], self._parent[1] + self._healing[1]
        """The units and the work of one child."""
        self.metric = f"{self._judges[0].name}.kl"
        pieces = inputs.library.checksums()
        made = [pieces.get(job.id, "") for job in inputs.jobs]
        # everything besides the child that its figures depend on
        parts = [METHOD, made, self._healing_texts(), [judge.identity() for judge in self._judges]]
        self._known = FiguresCache(inputs.build, "judged-", json.dumps(parts, sort_keys=True))

    def measure(self, proposal: Proposal, proposals: Proposals, children: int) -> None:
        """Judge a proposal, and report what it misses. The healed weights of the best child so far are kept."""
        title = f"{len(proposals.children) + 1} of {children}"
        figures = self.figures(proposal.solution, title)
        child = proposals.add(proposal, figures[self.metric].value, figures)
        self.keep(proposals.children[proposals.best()].layers)
        log = self._inputs.progress.log
        log("judged", missed=list(child.missed), kl=child.measured, predicted=child.predicted)

    def start(self, title: str, children: int) -> None:
        """Start a progress bar: layers to heal and units to judge of each of so many children, and units of the parent once."""
        units, work = (own + children * child for own, child in zip(self._parent, self._child, strict=True))
        self._inputs.progress.start(title, int(units))
        self._inputs.progress.ready(work)

    def figures(self, solution: tables.Solution, title: str) -> Figures:
        """Return what the judges measure of a child, called `title`. Raises DiagnosticError for a missing or damaged piece."""
        inputs = self._inputs
        definition = model_definition(inputs.program, inputs.name, solution, inputs.jobs)
        name = (0, "judged", _digest(definition))
        if name in self._known.figures:
            units, work = self._child
            inputs.progress.advance(units, kept=True, work=work)
        else:
            self._known.add(name, self._measured(definition, solution.layers, title))
        known = self._known.figures[name]
        values = {key: value for key, value in known.items() if not key.endswith(_ERROR)}
        return {
            key: tables.Figure(value=value, stderr=known.get(key + _ERROR)) for key, value in values.items()
        }

    def keep(self, layers: Sequence[tables.Assignment]) -> None:
        """Keep the healed weights of one child that was measured, for the stage that builds it, and remove those of others."""
        for child in [child for child in self._healed if child != tuple(layers)]:
            shutil.rmtree(self._healed.pop(child), ignore_errors=True)

    def _measured(
        self, definition: tables.ModelDefinition, layers: Sequence[tables.Assignment], title: str
    ) -> dict[str, float]:
        inputs = self._inputs
        for judge in self._judges:
            judge.of_parent(title)  # before a child is healed: one at chance keeps nothing
        # a name of its own: models in memory are known by their directories
        child = inputs.work / f"judged-{_digest(definition)[:12]}"
        shutil.rmtree(child, ignore_errors=True)
        healed = {}
        if inputs.heal:
            here = inputs.work / f"healing-{_digest(definition)[:12]}"
            work = inputs.healing_work(layers) if inputs.healing_work else here
            self._healed[tuple(layers)] = work
            healing = Part(inputs.progress, *self._healing, {"child": title, "part": "heal"})
            given = (inputs.program, inputs.name, inputs.parent_dir, inputs.base, inputs.library, inputs.jobs)
            wanted = HealingInputs(*given, work, healing, inputs.executor, definition=definition)
            healed = healed_weights(wanted)
            healing.end()
        realise(definition, inputs.parent_dir, inputs.library.load, child, healed=healed)
        found: dict[str, float] = {}
        for judge in self._judges:
            for figure, measured in judge.figures(child, title).items():
                found[f"{judge.name}.{figure}"] = measured.value
                if measured.stderr is not None:
                    found[f"{judge.name}.{figure}{_ERROR}"] = measured.stderr
        shutil.rmtree(child, ignore_errors=True)
        return found

    def _healing_work(self, solution: tables.Solution | None) -> tuple[int, float]:
        """Return the progress units of healing a child, and their work in weights that tokens meet; (0, 0) without healing.

        `solution`: the child; None: one whose sub-blocks all have the size of the parent's.
        """
        inputs, program = self._inputs, self._inputs.program
        space = program.spaces[program.searches[inputs.name].space]
        tokens = max((bld.heal_tokens for bld in program.blds.values() if bld.space == space.name), default=0)
        if not inputs.heal or not tokens:
            return 0, 0.0
        shape = program.parents[space.parent].shape
        work = HealingWork(shape, tokens, JUDGING_TOKENS)
        layers: Sequence[Layer] = ((ParentAttention(), ParentFfn()),) * shape.layers
        if solution is not None:
            defined = model_definition(program, inputs.name, solution, inputs.jobs).layers
            pairs: list[Layer] = [(layer.attention, layer.ffn) for layer in defined]
            layers = [*dropwhile(lambda pair: all(a.is_parent for a in pair), pairs)]
        return shape.layers + 1, work.of_layers(layers) + work.compared

    def _healing_texts(self) -> list[str]:
        """Return digests of the texts that children are healed on; none without healing."""
        inputs, program = self._inputs, self._inputs.program
        space = program.searches[inputs.name].space
        given = (inputs.base, inputs.tokenizer, inputs.build.tokens, inputs.progress)
        found = []
        for bld in program.blds.values() if inputs.heal else ():
            text = healing_text(program, bld, *given) if bld.space == space and bld.heal_tokens else None
            found += [origin(inputs.parent_dir, blocks_NS)["text"] for blocks_NS in text or ()]
        return found


def _digest(definition: tables.ModelDefinition) -> str:
    return hashlib.sha256(definition.model_dump_json().encode()).hexdigest()[:24]


_ERROR = " ±"


class _Judge:
    """One judge: an evaluation of texts and tasks, without times and prompts."""

    def __init__(self, inputs: RefineInputs, judge: Judge) -> None:
        self.name, self._inputs = judge.name, inputs
        evaluation = Eval(
            name=judge.name,
            where=judge.where,
            of=inputs.name,
            tasks=judge.tasks,
            items=judge.items,
            data=judge.data,
            tokens=judge.tokens,
            dtype=judge.dtype,
            prompts=Prompts(),
        )
        program = inputs.program.model_copy(update={"evals": {judge.name: evaluation}, "scenarios": {}})
        given = (inputs.parent_dir, inputs.base, inputs.build.tokens, inputs.progress)
        self._plan = plan_of(program, judge.name, *given)
        self._bench = Bench(self._plan, inputs.parent_dir.resolve(), inputs.progress)
        self._parent: Measured | None = None
        required, kept = program.searches[inputs.name].requirements, (judge.name, "kept")
        linear = [each for each in required if isinstance(each, LinearRequirement)]
        places = (r.where for r in linear if r.judged and (r.judged.judge, r.judged.figure) == kept)
        self._kept = next(places, None)
        """Place in the program of a requirement on this judge's figure `kept`; None without one."""
        units = units_of(self._plan, "child", Path(), full=True)
        self.size = sum(unit.size for unit in units)
        """The blocks and items that it measures of a child, or of the parent."""
        self.tokens = sum(text.blocks_NT.numel() for text in self._plan.texts)
        self._effort = EvalWork.of(inputs.parent_dir)
        self.work = self._effort.units(self._plan, units)
        """The work of measuring these, in weights that tokens meet."""

    def identity(self) -> list[str]:
        """Return all that its figures depend on besides the child."""
        parent = self._inputs.parent_dir
        texts = [str(origin(parent, text.blocks_NT)) for text in self._plan.texts]
        tasks = [hashlib.sha256(repr(task).encode()).hexdigest() for task in self._plan.tasks]
        return [self.name, str(self._plan.declaration.dtype), *texts, *tasks]

    def of_parent(self, title: str) -> Measured:
        """Return the parent's results, measured once. Raises DiagnosticError if it is at chance and `kept` is required."""
        if self._parent is None:
            self._parent = self._of(PARENT, self._inputs.parent_dir.resolve(), title)
            samples = self._parent.samples
            own = compare(PARENT, samples, samples, self._parent.chances).kept.get(POOLED)
            if self._kept is not None and own is not None and own.verdict == "parent_at_chance":
                shares: Args = {"parent": f"{own.parent:.1%}", "chance": f"{own.chance:.1%}"}
                span = span_of(self._kept)
                raise DiagnosticError(ParentAtChance(span, judge=self.name, items=own.items, **shares))
        return self._parent

    def figures(self, child: Path, title: str) -> dict[str, tables.Figure]:
        """Return the judged figures of a checkpoint, called `title`."""
        parent, measured = self.of_parent(title), self._of("child", child.resolve(), title)
        compared = compare("child", measured.samples, parent.samples, measured.chances)
        texts = measured.figures.figures
        found = {"kl": texts["kl"], "agreement": texts["top1_agreement"]}
        return {**found, **_compared(compared)}

    def _of(self, name: str, directory: Path, title: str) -> Measured:
        whose = self.name if name == "child" else f"{self.name}, of the parent"
        part = Part(self._inputs.progress, self.size, self.work, {"child": title, "part": whose})
        part.ready(self.work)
        self._bench.tell(part)
        store = Store(self._inputs.work, self._plan, self._inputs.parent_dir.resolve())
        found = {}
        for unit in units_of(self._plan, name, directory, full=True):
            known = store.read(unit) if name == PARENT else None
            found[unit] = known or self._bench.measure(unit)
            if known is not None:
                part.advance(unit.size, kept=True, work=self._effort.units(self._plan, [unit]))
            elif name == PARENT:
                store.write(unit, found[unit])
        part.end()
        return assembled(self._plan, name, found)


def _compared(found: tables.ModelComparison) -> dict[str, tables.Figure]:
    """Return the figures that are shares of the parent's, with standard errors from their 95 % intervals."""
    figures = {}
    ratio, kept = found.perplexity_ratio, found.kept.get(POOLED)
    if ratio is not None:
        figures["perplexity"] = tables.Figure(value=ratio.value, stderr=_error(ratio.low, ratio.high))
    if kept is not None and kept.chance_corrected is not None:
        figures["kept"] = tables.Figure(value=kept.chance_corrected, stderr=_error(kept.low, kept.high))
    return figures


def _error(low: float | None, high: float | None) -> float | None:
    return None if low is None or high is None else (high - low) / (2 * Z)
