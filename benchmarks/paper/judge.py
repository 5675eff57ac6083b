"""Judgement of a child: KL to its parent and LM loss on held-out text, by runs of positions; answers to tasks, by item.

Shapes: N blocks, S positions of a block, H hidden.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from puzzledsl.data.blocks import token_blocks
from puzzledsl.data.tasks import encode_choice, read_tasks
from puzzledsl.evaluate.choices import log_likelihoods, right_answers
from puzzledsl.evaluate.divergence import compare_block, final_states
from puzzledsl.ir.nodes import Data
from puzzledsl.models.families.access import output_embedding

RUN = 64
"""Positions of a text that make one sample: losses of neighbours are alike."""
CONTEXT = 256


@dataclass(frozen=True)
class Judged:
    """A child's losses on the same samples as every other child's.

    Attributes:
        kl: KL(parent || child) of each run of positions of the held-out text, nats a token.
        lm: Cross-entropy of the next token over the same runs, nats a token.
        params: Parameters.
        answers: For each task file, whether each item was answered rightly (1.0 or 0.0).
        chances: For each task file, each item's chance of being guessed.
    """

    kl: tuple[float, ...]
    lm: tuple[float, ...]
    params: int
    answers: dict[str, tuple[float, ...]]
    chances: dict[str, tuple[float, ...]]

    def excess(self) -> tuple[float, ...]:
        """Right answers above chance, item by item over all tasks."""
        return tuple(
            right - chance
            for name in sorted(self.answers)
            for right, chance in zip(self.answers[name], self.chances[name], strict=True)
        )


class Judge:
    """Judges children of one parent; what the parent says is computed once."""

    def __init__(self, text: Data, base: Path, cache: Path, tokens: int) -> None:
        """`text`: the held-out text, of which `tokens` are read; `base`: where its paths begin; `cache`: of encoded tokens."""
        self._text, self._base, self._cache, self._tokens = text, base, cache, tokens
        self._parent: PreTrainedModel | None = None
        self._states: list[Tensor] = []
        self._blocks_NS: Tensor | None = None

    def version(self, tasks: Sequence[Path], items: int) -> str:
        """A digest of all that a judgement depends on besides the models."""
        parts = [repr((self._text, self._tokens, RUN, CONTEXT, items))]
        parts += [hashlib.sha256(path.read_bytes()).hexdigest() for path in tasks]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def parent(self, model: PreTrainedModel, tokenizer: Any) -> None:
        """Take this parent, in float32."""
        self._parent, self._tokenizer = model, tokenizer
        self._blocks_NS = token_blocks(
            self._text, self._base, tokenizer, context=CONTEXT, tokens=self._tokens, seed=0, cache=self._cache
        )
        self._states = final_states(model, self._blocks_NS)

    @property
    def ready(self) -> bool:
        """True once there is a parent."""
        return self._parent is not None

    def judged(self, model: PreTrainedModel, tasks: Sequence[Path] = (), items: int = 0) -> Judged:
        """All figures of a child, or of the parent itself."""
        assert self._parent is not None and self._blocks_NS is not None
        heads = output_embedding(self._parent), output_embedding(model)
        kl, lm = [], []
        for block in zip(self._blocks_NS, self._states, final_states(model, self._blocks_NS), strict=True):
            for ids, before, after in zip(*(torch.split(part, RUN) for part in block), strict=True):
                figures = compare_block(ids, before, heads[0], after, heads[1])
                kl.append(figures.kl)
                lm.append(figures.cross_entropy)
        answers, chances = {}, {}
        for path in tasks:
            read = read_tasks(path, items)
            encoded = [[encode_choice(self._tokenizer, i.context, c) for c in i.choices] for i in read]
            right = right_answers(path.stem, read, log_likelihoods(model, encoded, share_context=True))
            answers[path.stem] = tuple(right.get(f"{path.stem}_norm", right[path.stem]))
            chances[path.stem] = tuple(1 / len(item.choices) for item in read)
        params = sum(parameter.numel() for parameter in model.parameters())
        return Judged(tuple(kl), tuple(lm), params, answers, chances)
