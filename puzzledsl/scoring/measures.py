"""What is compared: a child's final hidden states with the parent's, on scored tokens or on multiple-choice items.

A measure owns its tokens, in groups that go through the model together, and turns the normed hidden states that leave the
model into figures. There are never two full tensors of logits: only the parent's log-probabilities may be kept.

Shapes: B sequences, S positions of a group; P scored positions of all groups; H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from puzzledsl.data.tasks import EncodedChoice, Item
from puzzledsl.modeling.layerwise import LayerRunner

CHUNK = 512
"""Positions whose logits exist at one time."""
KEPT_LOG_PROBS_BYTES = 4 * 2**30
"""The parent's log-probabilities are kept up to this size, and made again for each replacement beyond it."""
GROUP_TOKENS = 2048
"""Tokens that go through the model together."""
Figures = dict[str, float]


class Measure(Protocol):
    """One way of telling how good a model is."""

    groups: Sequence[Tensor]
    """Token ids [B, S] each."""

    def samples(self) -> int:
        """How many positions or items count."""

    def set_parent(self, normed: Sequence[Tensor]) -> None:
        """Take the parent's normed final hidden states, one [B, S, H] a group."""

    def figures(self, normed: Sequence[Tensor]) -> Figures:
        """How much worse a child is than the parent: 0 for the parent itself, larger is worse."""


class Logits:
    """Logits and log-probabilities of a few positions at a time, in two buffers that are used again and again."""

    def __init__(self, runner: LayerRunner) -> None:
        self._runner = runner
        self._buffers: tuple[Tensor, Tensor] | None = None

    def log_probs(self, normed_PH: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities [P, V] and as much scratch space, float32. Both are overwritten by the next call."""
        logits = self._runner.head(normed_PH).float()
        if self._buffers is None or self._buffers[0].shape[1] != logits.shape[1]:
            self._buffers = (
                logits.new_empty(CHUNK, logits.shape[1]),
                logits.new_empty(CHUNK, logits.shape[1]),
            )
        result, scratch = (buffer[: logits.shape[0]] for buffer in self._buffers)
        torch.log_softmax(logits, -1, out=result)
        return result, scratch


class Divergence:
    """`kl_divergence` (nats, parent || child), `lm_loss` (nats, child - parent) and `cosine` (1 - cosine of the normed
    final hidden states), means over the first `samples` positions; `lm_loss` over those of them whose next token is known.
    """

    def __init__(self, runner: LayerRunner, tokens_NS: Tensor, samples: int) -> None:
        per_group = max(1, GROUP_TOKENS // tokens_NS.shape[1])
        self.groups: Sequence[Tensor] = torch.split(tokens_NS, per_group)
        self._samples = min(samples, tokens_NS.numel())
        following = torch.full_like(tokens_NS, -1)
        following[:, :-1] = tokens_NS[:, 1:]
        self._labels_P = following.flatten()[: self._samples].to(runner.device)
        self._runner, self._logits = runner, Logits(runner)
        self._parent_PH = torch.empty(0)
        self._kept: list[Tensor] | None = None

    def samples(self) -> int:
        """Scored positions."""
        return self._samples

    def set_parent(self, normed: Sequence[Tensor]) -> None:
        """See `Measure`."""
        self._parent_PH = self._flat(normed)
        vocab = self._runner.head(self._parent_PH[:1]).shape[-1]
        if self._samples * vocab * 4 <= KEPT_LOG_PROBS_BYTES:
            self._kept = [
                self._logits.log_probs(chunk)[0].clone() for chunk in torch.split(self._parent_PH, CHUNK)
            ]

    def figures(self, normed: Sequence[Tensor]) -> Figures:
        """See `Measure`."""
        child_PH = self._flat(normed)
        kl = loss = cosine = 0.0
        parents = self._parent_log_probs()
        for child, parent, labels in zip(
            torch.split(child_PH, CHUNK),
            torch.split(self._parent_PH, CHUNK),
            torch.split(self._labels_P, CHUNK),
            strict=True,
        ):
            p = next(parents)
            q, scratch = self._logits.log_probs(child)
            known = (labels >= 0).nonzero()[:, 0]
            at = (known, labels[known])
            loss += float((p[at] - q[at]).sum(dtype=torch.float64))
            torch.exp(p, out=scratch)
            torch.sub(p, q, out=q)
            kl += float(torch.bmm(scratch[:, None, :], q[:, :, None]).sum(dtype=torch.float64))
            similarity = torch.cosine_similarity(child.float(), parent.float(), dim=-1)
            cosine += float((1 - similarity).sum(dtype=torch.float64))
        labelled = max(1, int((self._labels_P >= 0).sum()))
        return {
            "kl_divergence": max(0.0, kl / self._samples),
            "lm_loss": loss / labelled,
            "cosine": max(0.0, cosine / self._samples),
        }

    def _parent_log_probs(self) -> Iterator[Tensor]:
        if self._kept is not None:
            yield from self._kept
            return
        own = Logits(self._runner)  # the child's buffers are in use meanwhile
        for chunk in torch.split(self._parent_PH, CHUNK):
            yield own.log_probs(chunk)[0]

    def _flat(self, normed: Sequence[Tensor]) -> Tensor:
        return torch.cat([group.flatten(0, 1) for group in normed])[: self._samples]


class Accuracy:
    """`accuracy`: the parent's accuracy on multiple-choice items less the child's.

    A model chooses the choice with the highest log-probability a character (lm-evaluation-harness's `acc_norm`).
    """

    def __init__(
        self, runner: LayerRunner, items: Sequence[Item], encoded: Sequence[Sequence[EncodedChoice]]
    ) -> None:
        self._runner, self._logits, self._items = runner, Logits(runner), items
        flat = [(i, j, choice) for i, choices in enumerate(encoded) for j, choice in enumerate(choices)]
        flat.sort(key=lambda entry: len(entry[2].ids))
        self._groups = list(_grouped(flat))
        self.groups: Sequence[Tensor] = [
            _padded([choice for _, _, choice in group]) for group in self._groups
        ]
        self._parent_accuracy = 0.0

    def samples(self) -> int:
        """Items."""
        return len(self._items)

    def set_parent(self, normed: Sequence[Tensor]) -> None:
        """See `Measure`."""
        self._parent_accuracy = self.accuracy(normed)

    def figures(self, normed: Sequence[Tensor]) -> Figures:
        """See `Measure`."""
        return {"accuracy": self._parent_accuracy - self.accuracy(normed)}

    def accuracy(self, normed: Sequence[Tensor]) -> float:
        """Fraction of items whose right choice is the most likely a character."""
        scores = [[0.0] * len(item.choices) for item in self._items]
        for group, hidden in zip(self._groups, normed, strict=True):
            for row, (i, j, choice) in enumerate(group):
                log_prob = self._log_prob(hidden[row, choice.start - 1 : len(choice.ids) - 1], choice)
                scores[i][j] = log_prob / len(self._items[i].choices[j])
        right = [
            max(range(len(s)), key=s.__getitem__) == item.answer
            for s, item in zip(scores, self._items, strict=True)
        ]
        return sum(right) / max(1, len(right))

    def _log_prob(self, normed_PH: Tensor, choice: EncodedChoice) -> float:
        labels = torch.tensor(choice.ids[choice.start :], device=normed_PH.device)
        total = 0.0
        for hidden, following in zip(torch.split(normed_PH, CHUNK), torch.split(labels, CHUNK), strict=True):
            log_probs, _ = self._logits.log_probs(hidden)
            total += float(log_probs.gather(1, following[:, None]).sum(dtype=torch.float64))
        return total


Entry = tuple[int, int, EncodedChoice]


def _grouped(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Runs of entries of about one length (they are sorted), at most GROUP_TOKENS with their padding."""
    group: list[Entry] = []
    for entry in entries:
        if group and (len(group) + 1) * len(entry[2].ids) > GROUP_TOKENS:
            yield group
            group = []
        group.append(entry)
    if group:
        yield group


def _padded(choices: Sequence[EncodedChoice]) -> Tensor:
    """[B, S], padded on the right with 0: no position attends to what comes after it, so padding changes nothing."""
    longest = max(len(choice.ids) for choice in choices)
    return torch.tensor([[*choice.ids, *[0] * (longest - len(choice.ids))] for choice in choices])
