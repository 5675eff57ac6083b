"""Quality of a child: KL to its parent on two texts, and the accuracy that it keeps.

Shapes: N blocks, S positions of a block, H hidden, I items of all tasks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.child_made import Bench
from puzzledsl.data.tasks import EncodedChoice, Item, answered, encode_item, read_tasks
from puzzledsl.evaluate.choices import log_likelihoods, right_answers
from puzzledsl.evaluate.divergence import compare_block, final_states
from puzzledsl.models.families.load import load_parent, load_tokenizer

RUN = 64
"""Positions of a text that are drawn together: KLs of neighbours are alike."""
RESAMPLES = 2000
HELDOUT = "heldout"
Figure = dict[str, float]


@dataclass(frozen=True)
class Task:
    """The first items of a file, and what the parent answers."""

    name: str
    items: tuple[Item, ...]
    encoded: list[tuple[EncodedChoice, ...]]


class Judge:
    """Judges children of the bench's parent; what the parent says is computed once."""

    def __init__(self, bench: Bench, *, items: int, heldout: int, task_tokens: int, shots: int = 0) -> None:
        """`shots`: answered questions in front of each, the same for all and asked of nobody."""
        self._bench, self._sizes, self._shots = bench, (items, heldout, task_tokens, shots), shots
        self._tokenizer = load_tokenizer(bench.parent_dir)
        named = sorted({task for declared in bench.program.evals.values() for task in declared.tasks})
        paths = [bench.base / task for task in named]
        self._tasks = [self._task(path, items) for path in paths] if items else []
        self._texts = {"kl": bench.text(HELDOUT, heldout)}
        if task_tokens and (texts := self._task_text(paths, task_tokens)) is not None:
            self._texts["kl_tasks"] = texts

    def inputs(self) -> dict[str, object]:
        """All that a judgement depends on besides the child."""
        texts = [text.numpy().tobytes() for text in self._texts.values()]
        tasks = repr([task.encoded for task in self._tasks])
        return {
            "sizes": self._sizes,
            "texts": hashlib.sha256(b"".join(texts)).hexdigest(),
            "tasks": hashlib.sha256(tasks.encode()).hexdigest(),
        }

    def title(self) -> str:
        """One line of the report."""
        sizes = {name: text.numel() for name, text in self._texts.items()}
        tasks = ", ".join(f"{task.name} {len(task.items)}" for task in self._tasks) or "none"
        if self._shots and self._tasks:
            lengths = [max(len(c.ids) for c in item) for task in self._tasks for item in task.encoded]
            tasks += (
                f" ({self._shots} shots, {sum(lengths) / len(lengths):.0f} tokens a question in the mean)"
            )
        parent = ", ".join(
            f"{task.name} {sum(right) / len(right):.3f}"
            for task, right in zip(self._tasks, self._parents_answers, strict=True)
        )
        return f"tokens of text: {sizes}; items: {tasks}; the parent's accuracy: {parent or 'not asked'}\n"

    def judged(self, model: PreTrainedModel) -> dict[str, Any]:
        """All figures of a child."""
        found: dict[str, Any] = {"kept": {}}
        for name, tokens_NS in self._texts.items():
            found[name] = _mean(self._divergences(model, name, tokens_NS))
        if self._tasks:
            answers = [self._answers(model, task) for task in self._tasks]
            found["kept"] = self._kept(answers)
        return found

    # ------------------------------------------------------------ text

    @cached_property
    def _parent(self) -> PreTrainedModel:
        return load_parent(self._bench.parent_dir, dtype=torch.float32)

    @cached_property
    def _parents_states(self) -> dict[str, list[Tensor]]:
        return {name: final_states(self._parent, tokens) for name, tokens in self._texts.items()}

    def _divergences(self, model: PreTrainedModel, name: str, tokens_NS: Tensor) -> list[float]:
        """Mean KL of each run of positions."""
        heads = [m.get_output_embeddings().weight for m in (self._parent, model)]  # type: ignore[no-untyped-call]
        blocks = zip(tokens_NS, self._parents_states[name], final_states(model, tokens_NS), strict=True)
        return [
            compare_block(ids, before, heads[0], after, heads[1]).means["kl"]
            for block in blocks
            for ids, before, after in zip(*(torch.split(part, RUN) for part in block), strict=True)
        ]

    def _task_text(self, paths: Sequence[Path], count: int) -> Tensor | None:
        """Contexts with their right endings, an equal share of each task, [N, context]; None without tasks."""
        context, share = self._bench.bld.context, -(-count // max(1, len(paths)))
        ids: list[int] = []
        for path in paths:
            texts = [answered(item) for item in read_tasks(path)]
            own = [
                i
                for text in texts
                for i in (*self._tokenizer(text)["input_ids"], self._tokenizer.eos_token_id)
            ]
            ids += own[:share]
        whole = min(len(ids), count) // context
        return torch.tensor(ids[: whole * context]).view(whole, context) if whole else None

    # ------------------------------------------------------------ tasks

    def _task(self, path: Path, items: int) -> Task:
        read = read_tasks(path, items + self._shots)
        read = _behind(read[items:], read[:items])
        encoded = [encode_item(self._tokenizer, item) for item in read]
        return Task(path.stem, read, encoded)

    def _answers(self, model: PreTrainedModel, task: Task) -> tuple[float, ...]:
        scores = log_likelihoods(model, task.encoded, share_context=True)
        return right_answers(task.name, task.items, scores)[f"{task.name}_norm"]

    @cached_property
    def _parents_answers(self) -> list[tuple[float, ...]]:
        return [self._answers(self._parent, task) for task in self._tasks]

    def _kept(self, answers: Sequence[Sequence[float]]) -> dict[str, Figure | None]:
        """The share of the parent's accuracy above chance that is left, a task and pooled over all items."""
        child, parent = [], []
        for task, own, before in zip(self._tasks, answers, self._parents_answers, strict=True):
            chance = torch.tensor([1 / len(item.choices) for item in task.items], dtype=torch.float64)
            child.append(torch.tensor(own, dtype=torch.float64) - chance)
            parent.append(torch.tensor(before, dtype=torch.float64) - chance)
        kept = {t.name: ratio(a, b) for t, a, b in zip(self._tasks, child, parent, strict=True)}
        return {**kept, "pooled": ratio(torch.cat(child), torch.cat(parent))}


def _behind(before_them: Sequence[Item], items: Sequence[Item]) -> tuple[Item, ...]:
    """Items whose contexts begin with questions and their right answers, a blank line behind each."""
    before = "".join(f"{answered(item)}\n\n" for item in before_them)
    return tuple(
        replace(item, context=tuple(before + context for context in item.contexts)) for item in items
    )


def _drawn(count: int) -> Tensor:
    """Indices of resamples, [RESAMPLES, count]."""
    return torch.randint(count, (RESAMPLES, count), generator=torch.Generator().manual_seed(0))


def _mean(values: Sequence[float]) -> Figure:
    values_N = torch.tensor(values, dtype=torch.float64)
    return {"value": float(values_N.mean()), "stderr": float(values_N[_drawn(len(values_N))].mean(1).std())}


def ratio(child_I: Tensor, parent_I: Tensor) -> Figure | None:
    """A ratio of means over the same items, with its error to first order; None where the parent is at chance."""
    if (total := float(parent_I.sum())) <= 0:
        return None
    ratio = float(child_I.sum()) / total
    residual_I = child_I - ratio * parent_I
    return {"value": ratio, "stderr": float(residual_I.std()) * len(residual_I) ** 0.5 / total}
