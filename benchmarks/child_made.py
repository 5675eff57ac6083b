"""From a recipe to a child in memory: solved, refined, assembled, healed, uptrained."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.child_choice import Chosen, Inputs, choose, refining_code
from benchmarks.child_methods import SEARCH, Question, Refined, parse
from puzzledsl.base.progress import Silent
from puzzledsl.child.assemble import assemble
from puzzledsl.child.checkpoint.realise import realise
from puzzledsl.child.definition import model_definition
from puzzledsl.child.healing.run import HealingInputs, healed_weights
from puzzledsl.child.load import load_child
from puzzledsl.cli.loading import context
from puzzledsl.data.blocks import token_blocks
from puzzledsl.ir.nodes import Bld, Program
from puzzledsl.ir.tables import CostTable, ModelDefinition
from puzzledsl.models.families.load import load_parent, load_tokenizer
from puzzledsl.models.families.tensors import LazyTensor
from puzzledsl.pieces.store.library import Library
from puzzledsl.pipeline.healing import HEALING
from puzzledsl.pipeline.inputs import costs_of, jobs_of, scores_of
from puzzledsl.uptrain.run import METHOD, UptrainInputs, run_uptrain

HEALED_ON = "heal_tokens" if "heal_tokens" in Bld.model_fields else "calibration_tokens"


@dataclass(frozen=True)
class Recipe:
    """A method and the speed-up it is asked for, and what is done to the child. `seed` draws the text."""

    method: str
    speed: float
    seed: int
    tokens: int
    uptrain: int

    @property
    def title(self) -> str:
        """`block_influence at 1.2x, seed 0`."""
        return f"{self.method} at {self.speed:g}x, seed {self.seed}"

    def as_json(self) -> dict[str, object]:
        """The fields of a child's record."""
        return {"asked" if name == "speed" else name: value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Made:
    """A child; nothing where no child was found."""

    status: str
    chosen: Chosen | None = None
    model: PreTrainedModel | None = None


class Bench:
    """The example's build, opened. One child is in memory at a time."""

    def __init__(self, program: Path, build: Path | None, costs: Path | None, work: Path) -> None:
        self._file, self._build, self._work = program, build, work
        self._ctx = context(program, None, build)
        self.base = self._ctx.base
        self.space = self._ctx.program.searches[SEARCH].space
        self.parent_dir = self._ctx.parent_directory(self.space, "score")
        self.library = Library(self._ctx.build.library)
        self.bld: Bld = next(b for b in self._ctx.program.blds.values() if b.space == self.space)
        self._jobs = jobs_of(self._ctx, self.bld.name)
        self._scores = scores_of(self._ctx, SEARCH)
        self._costs = (
            costs_of(self._ctx, self.space) if costs is None else CostTable.from_json(costs.read_bytes())
        )

    @property
    def program(self) -> Program:
        """The example's program."""
        return self._ctx.program

    def inputs(self, recipe: Recipe) -> dict[str, object]:
        """All that a child depends on."""
        tables = {name: table.digest() for name, table in sorted(self._scores.items())}
        program = self.question(recipe.speed).program
        refining = {"refining": refining_code()} if isinstance(parse(recipe.method), Refined) else {}
        return {
            **refining,
            **recipe.as_json(),
            "program": program.model_copy(update={"params": {}, "evals": {}, "exports": {}}).digest(),
            "costs": self._costs.digest(),
            "scores": tables,
            "healing": HEALING,
            "uptraining": METHOD,
        }

    def question(self, speed: float) -> Question:
        """The example's search for a speed-up, with its tables."""
        ctx = context(self._file, [f"speedup={speed:g}x"], self._build)
        return Question(ctx.program, self._costs, self._scores)

    def made(self, recipe: Recipe) -> Made:
        """The child of a recipe."""
        method, question = parse(recipe.method), self.question(recipe.speed)
        assert method is not None
        work = self._work / f"{recipe.method}-{recipe.speed:g}-{recipe.seed}"
        shutil.rmtree(
            work, ignore_errors=True
        )  # nothing measured by a run before: it would take no time here
        work.mkdir(parents=True)
        try:
            choice = choose(method, question, self._inputs(recipe, work))
            if isinstance(choice, str):
                return Made(choice)
            definition = model_definition(question.program, SEARCH, choice.solution, self._jobs)
            return Made(choice.status, choice, self._model(recipe, definition, work))
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _inputs(self, recipe: Recipe, work: Path) -> Inputs:
        seed = self.bld.seed + recipe.seed
        return Inputs(seed, self.parent_dir, self.base, self.library, self._jobs, work / "refining")

    def _model(self, recipe: Recipe, definition: ModelDefinition, work: Path) -> PreTrainedModel:
        healed = self._healed(recipe, definition, work) if recipe.tokens else {}
        if recipe.uptrain:
            realise(definition, self.parent_dir, self.library.load, work / "child", healed=healed)
            self._uptrained(recipe, work)
            return load_child(work / "uptrained", dtype=torch.float32)
        model = assemble(load_parent(self.parent_dir), definition, self.library.load)
        weights = {name: tensor.read() for name, tensor in healed.items()}
        unknown = model.load_state_dict(weights, strict=False).unexpected_keys
        assert not unknown, unknown
        return model

    def _healed(self, recipe: Recipe, definition: ModelDefinition, work: Path) -> dict[str, LazyTensor]:
        """Healed weights, as `pzl realise` makes them, on so many tokens; empty where the child is better left alone."""
        seed = self.bld.seed + recipe.seed
        bld = self.bld.model_copy(update={HEALED_ON: recipe.tokens, "seed": seed})
        return healed_weights(
            HealingInputs(
                self.program.model_copy(update={"blds": {bld.name: bld}}),
                definition,
                self._jobs,
                self.parent_dir,
                self.base,
                self.library.load,
                self._ctx.build.tokens,
                work / "healing",
                Silent(),
            )
        )

    def _uptrained(self, recipe: Recipe, work: Path) -> None:
        """Distil the child in `work`, as the program's `uptrain` says but on so many tokens."""
        name, declared = next((n, u) for n, u in self.program.uptrains.items() if u.search == SEARCH)
        changed = declared.model_copy(update={"tokens": recipe.uptrain, "seed": declared.seed + recipe.seed})
        run_uptrain(
            UptrainInputs(
                self.program.model_copy(update={"uptrains": {name: changed}}),
                name,
                self.parent_dir,
                work / "child",
                work / "uptrained",
                self.base,
                work / "uptrain",
                self._ctx.build.tokens,
                Silent(),
            )
        )

    def text(self, data: str | None, count: int, *, seed: int = 0) -> Tensor:
        """Token ids of a text of the program, [N, context]."""
        assert data is not None
        return token_blocks(
            self.program.data[data],
            self.base,
            load_tokenizer(self.parent_dir),
            context=self.bld.context,
            tokens=count,
            seed=seed,
            cache=self._ctx.build.tokens,
        )
