"""Measurement of the units of an evaluation in this process.

Models share the memory: each has at most one copy there, which is dropped to make room, or is read layer by layer as it runs.
"""

import gc
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.frozen import Record
from puzzledsl.base.progress import Progress
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.child.checkpoint.contents import load_checkpoint
from puzzledsl.evaluate.choices import Answers, Row, answers, can_share, score_choices
from puzzledsl.evaluate.compare import repetition_of
from puzzledsl.evaluate.divergence import BlockFigures, Counted, compare_block, final_states, log_probs
from puzzledsl.evaluate.errors import OtherModel, TooLargeToTime
from puzzledsl.evaluate.plan import Plan
from puzzledsl.evaluate.prompts import ANSWER_TOKENS, Prompt, continued_ids
from puzzledsl.evaluate.units import (
    PARENT,
    ROUNDS,
    EvalWork,
    Found,
    Speed,
    TimeInEngine,
    Unit,
    relative_speed,
    speed_of,
    timed_in_turn,
)
from puzzledsl.ir.base import span_of
from puzzledsl.ir.nodes import Hardware
from puzzledsl.ir.tables import Answer
from puzzledsl.measure.whole import Samples
from puzzledsl.models.families.access import base_shape_of, output_embedding
from puzzledsl.models.families.load import load_config
from puzzledsl.models.machine import Workers
from puzzledsl.models.placement import SHARE, free_bytes, is_paged, placement, read_by_layer, weights_bytes
from puzzledsl.plan.memory.stages import AT_ONCE


class Copy(Record):
    """A model's weights in one dtype on one device."""

    directory: Path
    device: torch.device
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """Bytes of the weights."""
        return weights_bytes(self.directory, self.dtype)


class Models:
    """Loaded models. Of a directory there is one copy at a time; what was used longest ago is dropped to make room."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._loaded: dict[Copy, PreTrainedModel] = {}

    def get(self, directory: Path, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
        """Return a model, one that reads its weights layer by layer where it does not fit. Raises DiagnosticError."""
        copy = Copy(directory, device, dtype)
        if copy not in self._loaded:
            if self._make_room([copy]):
                self._loaded[copy] = load_checkpoint(directory, dtype=dtype, device=device)
            else:
                whose = f"the weights of {directory.name}"
                self._loaded[copy] = read_by_layer(whose, directory, device, dtype, self.progress, once=False)
            self.progress.ready()
        self._loaded[copy] = self._loaded.pop(copy)
        return self._loaded[copy]

    def beside(self, copies: Iterable[Copy]) -> list[PreTrainedModel] | None:
        """Return models that are whole in memory together; None if they do not fit. Raises as `get` does."""
        wanted = list(copies)
        if not self._make_room(wanted):
            return None
        return [self.get(copy.directory, copy.device, copy.dtype) for copy in wanted]

    def to_time(self, copy: Copy, name: str) -> PreTrainedModel:
        """Return a model that is whole in memory, so that its forward can be timed. Raises DiagnosticError (TooLargeToTime)."""
        if (found := self.beside([copy])) is None:
            needed, room = (format_quantity(n, BYTES) for n in (copy.bytes, free_bytes(copy.device)))
            problem = TooLargeToTime(None, model=name, needed=needed, room=room, device=copy.device.type)
            raise DiagnosticError(problem)
        return found[0]

    def keep_only(self, directories: Iterable[Path]) -> None:
        """Drop the weights of all other directories."""
        kept = set(directories)
        self._loaded = {copy: model for copy, model in self._loaded.items() if copy.directory in kept}

    def _make_room(self, wanted: list[Copy]) -> bool:
        """Drop other copies of the same models, and others as long as these do not fit; return True if they do."""
        ours = {copy.directory for copy in wanted}
        for copy in [c for c in self._loaded if c.directory in ours and c not in wanted]:
            del self._loaded[copy]
        for copy in [c for c in wanted if c in self._loaded and is_paged(self._loaded[c])]:
            del self._loaded[copy]
        gc.collect()  # a model's hooks and modules refer to each other
        others = [copy for copy in self._loaded if copy not in wanted]
        while not self._fit(wanted):
            if not others:
                return False
            del self._loaded[others.pop(0)]
            gc.collect()
        return True

    def _fit(self, wanted: list[Copy]) -> bool:
        """True if these, beside what is loaded, leave a device the room that activations need."""
        for device in {copy.device for copy in wanted}:
            new = sum(copy.bytes for copy in wanted if copy.device == device and copy not in self._loaded)
            there = sum(copy.bytes for copy in self._loaded if copy.device == device)
            free = free_bytes(device)  # of a CPU without what is loaded, of a GPU in all
            if new and new > SHARE * free - (there if device.type == "cuda" else 0):
                return False
        return True


def parameters_of(model: PreTrainedModel) -> int:
    """Return the number of parameters; a tied embedding counts once."""
    twice = is_paged(model) and base_shape_of(model.config).tied
    return sum(w.numel() for w in model.parameters()) - (output_embedding(model).numel() if twice else 0)


LOG_PROBS_BYTES = 1 << 30
"""Most bytes of the parent's log-probabilities on a text that are kept for the models that are compared with it."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Bench:
    """Measures units. Keeps their models, if possible the parent beside each child, and the parent's states on each text."""

    def __init__(
        self, plan: Plan, parent_dir: Path, progress: Progress, engines: TimeInEngine | None = None
    ) -> None:
        self.plan, self.parent_dir, self.progress = plan, parent_dir, progress
        self._engines, self._work = engines, EvalWork.of(parent_dir)
        self.models = Models(progress)
        self._parent_states: dict[str, list[Tensor]] = {}
        self._parent_log_probs: dict[str, list[Tensor | None]] = {}
        self._parent_VH: Tensor | None = None

    def tell(self, progress: Progress) -> None:
        """Report to another progress from now on."""
        self.progress = self.models.progress = progress

    def measure(self, unit: Unit, usual: Speed | None = None) -> Found:
        """Measure one unit. `usual`: for a child's speed, the parent's in the same scenario. Raises DiagnosticError."""
        self.models.keep_only((unit.directory, self.parent_dir))
        match unit.kind:
            case "text":
                expected, got = (load_config(path).vocab_size for path in (self.parent_dir, unit.directory))
                if got != expected:
                    span = span_of(self.plan.declaration.where)
                    raise DiagnosticError(OtherModel(span, model=unit.model, got=got, expected=expected))
                blocks = self.blocks(unit.directory, unit.of)
                return Found(params=parameters_of(self._placed(unit.directory)), blocks=tuple(blocks))
            case "speed":
                return Found(speed=self.speed_of(unit, usual))
            case "answers":
                return Found(answers=self.answered(unit))
            case "task" | "harness":
                found = self.answers_to(unit.directory, unit.of if unit.kind == "task" else None)
                return Found(right=found.right, chances=found.chances)

    def blocks(self, directory: Path, text: str) -> list[BlockFigures]:
        """Compare a model with the parent on each block of a text."""
        (read,) = (each for each in self.plan.texts if each.name == text)
        blocks_NT = read.blocks_NT
        if text not in self._parent_states or self._parent_VH is None:  # they stay when the parent is dropped
            parent = self._placed(self.parent_dir)
            self._parent_states[text] = final_states(parent, blocks_NT)
            self._parent_VH = output_embedding(parent).detach()
        parent_states, parent_VH = self._parent_states[text], self._parent_VH
        if text not in self._parent_log_probs:
            small = (
                4 * blocks_NT.numel() * len(parent_VH) <= LOG_PROBS_BYTES and parent_VH.device.type == "cpu"
            )
            self._parent_log_probs[text] = [log_probs(s, parent_VH) if small else None for s in parent_states]
        model = self._placed(directory)
        states = parent_states if directory == self.parent_dir else final_states(model, blocks_NT)
        self.progress.advance(0, work=blocks_NT.numel() * self._work.body)
        model_VH, found = output_embedding(model), []

        def compared(block: tuple[Tensor, Tensor, Tensor, Counted | None, Tensor | None]) -> BlockFigures:
            ids_T, parent_TH, model_TH, counted, parent_TV = block
            return compare_block(ids_T, parent_TH, parent_VH, model_TH, model_VH, counted, parent_TV)

        known = self._parent_log_probs[text]
        each_block = zip(blocks_NT, parent_states, states, read.counted(), known, strict=True)
        with Workers(model.device, most=AT_ONCE) as workers:
            for _, figures in workers.each(compared, each_block):
                found.append(figures)
                self.progress.advance(work=self._work.block(blocks_NT.shape[1]))
        return found

    def answers_to(self, directory: Path, name: str | None) -> Answers:
        """Return a model's answers to one task; None: to those of lm-evaluation-harness."""
        device, placed = placement(self.parent_dir)
        model = self.models.get(directory, device, DTYPES.get(self.plan.declaration.dtype or "", placed))
        if name is None:
            assert self.plan.harness is not None
            span = span_of(self.plan.declaration.where)
            self.plan.harness.check(span)
            return self.plan.harness.answers(model, self.plan.tokenizer, span)
        (task,) = (each for each in self.plan.tasks if each.name == name)

        def advance(items: int, rows: Sequence[Row]) -> None:
            self.progress.advance(items, work=self._work.rows(rows))

        share = can_share(model, task.longest)
        scored = score_choices(model, task.encoded, share_context=share, advance=advance)
        return answers(task.name, task.items, [[choice.log_prob for choice in item] for item in scored])

    def answered(self, unit: Unit) -> tuple[Answer, ...]:
        """Return a model's greedy answers to the prompts; empty if its weights are read layer by layer, anew for each token."""
        model, prompts = self._placed(unit.directory), self.plan.prompts
        if is_paged(model):
            self.progress.log("not_asked", text=f"{unit.model} answers no prompts: it is larger than memory")
            self._advance(len(prompts), self._work.answer())
            return ()
        asked = [Prompt(prompt.ids, ANSWER_TOKENS, ()) for prompt in prompts]
        tokenizer, advance = self.plan.tokenizer, partial(self._advance, each=self._work.answer())
        rows = continued_ids(model, tokenizer, asked, advance)
        return tuple(
            Answer(
                text=str(tokenizer.decode(ids, skip_special_tokens=True)),
                tokens=len(ids),
                repetition=repetition_of(ids),
            )
            for ids in rows
        )

    def speed_of(self, unit: Unit, usual: Speed | None) -> Speed:
        """Return a model's speed, a child's by ratios to the parent's `usual` one if both fit. Raises DiagnosticError."""
        (timed,) = (each for each in self.plan.timed if each.scenario == unit.of)
        directories = [self.parent_dir, *([] if unit.model == PARENT else [unit.directory])]
        advance = partial(self._advance, each=self._work.round(timed.workload, len(directories)))
        samples: Sequence[Samples]
        if isinstance(timed.on, Hardware):
            assert self._engines is not None, "the pipeline gives it"
            samples = self._engines(timed.on, timed.workload, directories, ROUNDS)
            advance(ROUNDS + 1)
        else:
            copies = [Copy(path, *timed.on) for path in directories]
            models = self.models.beside(copies) if len(copies) > 1 else None
            models = models or [self.models.to_time(copies[-1], unit.model)]
            samples = timed_in_turn(models, timed.workload, advance)
        if len(samples) == 1:
            return speed_of(samples[0].prefill, samples[0].decode)
        assert usual is not None, "the parent is timed before its children"
        return relative_speed(usual, *samples)

    def _advance(self, units: int, each: float) -> None:
        self.progress.advance(units, work=units * each)

    def _placed(self, directory: Path) -> PreTrainedModel:
        return self.models.get(directory, *placement(self.parent_dir))
