"""Judgement of a child: KL to its parent and LM loss on a text, by runs of positions; answers to tasks, by item.

Shapes: N blocks, S positions of a block, H hidden.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.data.blocks import token_blocks
from puzzledsl.data.source import Text
from puzzledsl.data.streams import in_part
from puzzledsl.data.tasks import EncodedChoice, Item, answered, encode_item, read_tasks
from puzzledsl.evaluate.choices import log_likelihoods, right_answers
from puzzledsl.evaluate.divergence import compare_block, final_states
from puzzledsl.ir.nodes import Data
from puzzledsl.models.families.access import output_embedding
from puzzledsl.models.placement import faster_in_bfloat16

RUN = 64
"""Positions of a text that make one sample: losses of neighbours are alike."""
CONTEXT = 256
Part = tuple[Fraction, Fraction] | None
"""A part of the items of task files, as `part: 50%..100%` of `tasks(…)` in a program; None: all."""


@dataclass(frozen=True)
class Judged:
    """A child's losses on the same samples as every other child's.

    Attributes:
        kl: KL(parent || child) of each run of positions of the text, nats a token.
        lm: Cross-entropy of the next token over the same runs, nats a token.
        params: Parameters.
        answers: For each task file, whether each item was answered rightly (1.0 or 0.0).
        chances: For each task file, each item's chance of being guessed.
        belief: For each task file, the probability of each item's right choice among its choices: a softmax of their
            log-likelihoods a token. It moves where no answer does.
    """

    kl: tuple[float, ...]
    lm: tuple[float, ...]
    params: int
    answers: dict[str, tuple[float, ...]]
    chances: dict[str, tuple[float, ...]]
    belief: dict[str, tuple[float, ...]]

    def excess(self) -> tuple[float, ...]:
        """Right answers above chance, item by item over all tasks."""
        return tuple(
            right - chance
            for name in sorted(self.answers)
            for right, chance in zip(self.answers[name], self.chances[name], strict=True)
        )


@dataclass(frozen=True)
class Exam:
    """The text and the tasks that children are judged on, the same for all.

    Attributes:
        text: The text of KL and LM loss.
        tokens: How many of its tokens are read.
        tasks: Task files.
        items: How many questions of each, from its beginning.
        part: The part of their questions that is asked.
    """

    text: Data
    tokens: int
    tasks: tuple[Path, ...] = ()
    items: int = 0
    part: Part = None

    @property
    def version(self) -> str:
        """A digest of all that a judgement depends on besides the models."""
        source = self.text.source.model_dump_json()
        parts = [repr((source, self.tokens, RUN, CONTEXT, self.items, self.part))]
        parts += [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.tasks]
        parts += [str(answering_dtype())] if self.tasks else []
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class Judge:
    """Judges children of one parent; what the parent says of a text is computed once."""

    def __init__(self, base: Path, cache: Path) -> None:
        """`base`: where the paths of texts begin; `cache`: of encoded tokens."""
        self._base, self._cache = base, cache
        self._parent: PreTrainedModel | None = None
        self._said: dict[str, tuple[Tensor, list[Tensor]]] = {}

    def parent(self, model: PreTrainedModel, tokenizer: Any) -> None:
        """Take this parent, in float32."""
        self._parent, self._tokenizer = model, tokenizer

    @property
    def ready(self) -> bool:
        """True once there is a parent."""
        return self._parent is not None

    def judged(self, model: PreTrainedModel, exam: Exam) -> Judged:
        """All figures of a child, or of the parent itself."""
        assert self._parent is not None
        blocks_NS, states = self._parent_on(exam)
        heads = output_embedding(self._parent), output_embedding(model)
        kl, lm = [], []
        for block in zip(blocks_NS, states, final_states(model, blocks_NS), strict=True):
            for ids, before, after in zip(*(torch.split(rows, RUN) for rows in block), strict=True):
                figures = compare_block(ids, before, heads[0], after, heads[1])
                kl.append(figures.means["kl"])
                lm.append(figures.means["perplexity"])
        answers, chances, belief = {}, {}, {}
        answering = deepcopy(model).to(answering_dtype()) if exam.tasks else model  # type: ignore[arg-type]
        for path in exam.tasks:
            read = items_of(path, exam.items, exam.part)
            encoded = [encode_item(self._tokenizer, item) for item in read]
            scores = log_likelihoods(answering, encoded, share_context=True)
            right = right_answers(path.stem, read, scores)
            answers[path.stem] = tuple(right.get(f"{path.stem}_norm", right[path.stem]))
            chances[path.stem] = tuple(1 / len(item.choices) for item in read)
            belief[path.stem] = tuple(map(believed, read, encoded, scores))
        params = sum(parameter.numel() for parameter in model.parameters())
        return Judged(tuple(kl), tuple(lm), params, answers, chances, belief)

    def _parent_on(self, exam: Exam) -> tuple[Tensor, list[Tensor]]:
        """The blocks of a text, and the parent's states on them."""
        assert self._parent is not None
        key = f"{exam.tokens} {exam.text.source.model_dump_json()}"
        if key not in self._said:
            blocks_NS = token_blocks(
                exam.text,
                self._base,
                self._tokenizer,
                context=CONTEXT,
                tokens=exam.tokens,
                seed=0,
                cache=self._cache,
            )
            self._said[key] = blocks_NS, final_states(self._parent, blocks_NS)
        return self._said[key]


def answering_dtype() -> torch.dtype:
    """The dtype in which tasks are answered: bfloat16 where the processor multiplies it itself, at a fraction of the time."""
    return torch.bfloat16 if faster_in_bfloat16(torch.device("cpu")) else torch.float32


def items_of(path: Path, count: int, part: Part) -> tuple[Item, ...]:
    """The first `count` items of a task file, of those that `tasks(…, part: …)` reads in a program."""
    items = (item for item in read_tasks(path) if in_part(Text(answered(item)), part))
    return tuple(islice(items, count))


def believed(item: Item, encoded: Sequence[EncodedChoice], log_likelihoods: Sequence[float]) -> float:
    """The probability of the right choice: a softmax over the choices of log p(choice | context) a token."""
    tokens = [len(choice.ids) - choice.start for choice in encoded]
    each = torch.tensor(log_likelihoods, dtype=torch.float64) / torch.tensor(tokens)
    return float(each.softmax(0)[item.answer])
