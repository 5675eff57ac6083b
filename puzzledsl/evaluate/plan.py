"""Inputs of an evaluation: token blocks, tasks and workloads, prepared before any model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Progress
from puzzledsl.data.blocks import SILENT, token_rows
from puzzledsl.data.errors import AnswersNotFound
from puzzledsl.data.streams import TokenRows
from puzzledsl.data.tasks import EncodedChoice, Item, encode_item, read_tasks
from puzzledsl.evaluate.compare import POOLED
from puzzledsl.evaluate.divergence import Counted
from puzzledsl.evaluate.errors import ItemTooLong, NoEvalData, ReservedTaskName, SameTaskName
from puzzledsl.evaluate.prompts import PromptTokens, prompts_of
from puzzledsl.ir.base import span_of
from puzzledsl.ir.nodes import Data, Eval, Hardware, Program
from puzzledsl.ir.references import space_of
from puzzledsl.ir.runtimes import engine_of, measured_in
from puzzledsl.ir.tables.evaluations import MEASURES
from puzzledsl.measure.place import device_of
from puzzledsl.measure.whole import Workload
from puzzledsl.models.families.load import load_config, load_tokenizer

BLOCK_TOKENS = 512
RESERVED = (POOLED, "params", "checkpoint_bytes", *MEASURES)  # of results that are no task's
SEED = 0


@dataclass(frozen=True, slots=True)
class Task:
    """A tokenised multiple-choice file."""

    name: str
    items: tuple[Item, ...]
    encoded: tuple[tuple[EncodedChoice, ...], ...]

    @property
    def longest(self) -> int:
        """Length in tokens of the longest context with a choice."""
        return max(len(choice.ids) for item in self.encoded for choice in item)


@dataclass(frozen=True, slots=True)
class Text:
    """Held-out text under the name of its data. `blocks_NT`: token ids; `learned_NT`: positions that count, None if all do."""

    name: str
    blocks_NT: Tensor
    learned_NT: Tensor | None = None

    def counted(self) -> list[Counted | None]:
        """Return the positions of each block that count."""
        if self.learned_NT is None:
            return [None] * len(self.blocks_NT)
        mean = int(self.learned_NT.sum()) / len(self.learned_NT)
        return [Counted(learned_T.nonzero()[:, 0], mean) for learned_T in self.learned_NT]


@dataclass(frozen=True, slots=True)
class Timed:
    """A scenario to time and the hardware to time it on: a device of PyTorch, or an engine that serves exported models."""

    scenario: str
    workload: Workload
    on: tuple[torch.device, torch.dtype] | Hardware


@dataclass(frozen=True, slots=True)
class Plan:
    """All inputs of an evaluation. Its headline figures are those of the first of `texts`."""

    declaration: Eval
    texts: tuple[Text, ...]
    tasks: tuple[Task, ...]
    timed: tuple[Timed, ...]
    tokenizer: Any
    prompts: tuple[PromptTokens, ...] = ()


def plan_of(
    program: Program, eval: str, parent_dir: Path, base: Path, cache: Path, progress: Progress = SILENT
) -> Plan:
    """Read and tokenise the inputs; a scenario has its largest declared batch, or 1. Raises DiagnosticError."""
    declaration = program.evals[eval]
    tokenizer = load_tokenizer(parent_dir)
    positions = int(getattr(load_config(parent_dir), "max_position_embeddings", BLOCK_TOKENS))
    context = max(2, min(BLOCK_TOKENS, positions, declaration.tokens))

    def rows(data: Data) -> TokenRows:
        return token_rows(
            *(data, base, tokenizer),
            context=context,
            tokens=declaration.tokens,
            seed=SEED,
            cache=cache,
            progress=progress,
        )

    texts = tuple(_text(declaration, data, rows(data)) for data in _texts(program, declaration))
    tasks = tuple(_task(declaration, base / path, tokenizer, positions) for path in declaration.tasks)
    for task in tasks:
        if sum(other.name == task.name for other in tasks) > 1:
            raise DiagnosticError(SameTaskName(span_of(declaration.where), name=eval, stem=task.name))
        if task.name in RESERVED:
            raise DiagnosticError(ReservedTaskName(span_of(declaration.where), name=eval, stem=task.name))
    timed = []
    for scenario, hardware in measured_in(program, space_of(program, declaration)):
        workload = Workload.of(scenario, max(scenario.batches, default=1))
        on = device_of(hardware) if engine_of(hardware) is None else hardware
        timed.append(Timed(scenario.name, workload, on))
    prompts = prompts_of(
        declaration, base, tokenizer, positions, {text.name: text.blocks_NT for text in texts}
    )
    return Plan(declaration, texts, tasks, tuple(timed), tokenizer, prompts)


def _text(declaration: Eval, data: Data, rows: TokenRows) -> Text:
    learned_NT = rows.learned(slice(None))
    if learned_NT is not None and not learned_NT.any():
        reason = f"none is among the {declaration.tokens} tokens that eval `{declaration.name}` reads"
        span = span_of(declaration.where)
        raise DiagnosticError(AnswersNotFound(span, name=data.name, reason=reason))
    return Text(data.name, rows[:], learned_NT)


def _texts(program: Program, declaration: Eval) -> tuple[Data, ...]:
    if declaration.data is not None:
        return tuple(program.data[name] for name in (declaration.data, *declaration.more_data))
    if len(program.data) == 1:
        return tuple(program.data.values())
    known = ", ".join(program.data) or "(declare one with `data NAME = text(…)`)"
    raise DiagnosticError(NoEvalData(span_of(declaration.where), name=declaration.name, known=known))


def _task(declaration: Eval, path: Path, tokenizer: Any, positions: int) -> Task:
    items = read_tasks(path, declaration.items, span=span_of(declaration.where))
    task = Task(path.stem, items, tuple(encode_item(tokenizer, item) for item in items))
    if task.longest > positions:
        problem = ItemTooLong(span_of(declaration.where), file=path, got=task.longest, limit=positions)
        raise DiagnosticError(problem)
    return task
