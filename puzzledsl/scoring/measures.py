"""Measures of a child against the parent: divergence on scored tokens, or accuracy on multiple-choice items.

A measure owns its tokens, in groups that run through the model together. It computes metrics from the model's final hidden states
after the last norm, tile by tile, so that a position's logits are never all in memory. With z the logits of a position, L =
logsumexp(z), p the parent's probabilities and w_v the head's rows,

    KL(parent || child) = L_child - L_parent - sum_v p_v (z_child,v - z_parent,v)
                        = L_child - L_parent - (h_child - h_parent) . e        where e = sum_v p_v w_v

so L, e and h of the parent, 2 H + 1 numbers per position in place of V, are enough; a bias of the head cancels. A child with rows
w'_v of its own has h_child . e' - h_parent . e in place of the last product, where e' = sum_v p_v w'_v.

Shapes: B sequences, S positions of a group; P scored positions of all groups; H hidden, V vocabulary, T tokens of a tile.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast

import torch
from torch import Tensor

from puzzledsl.data.tasks import EncodedChoice, Item, padded_batches
from puzzledsl.models.kernels import products as float32_products
from puzzledsl.models.kernels.products import PackedWeights, linear
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.plan.memory.stage_plan import tiles

Figures = dict[str, float]
T = TypeVar("T")


class Vocabulary:
    """A model's output head, [V, H]. A thread holds at most two tiles of float32 logits."""

    def __init__(self, weight_VH: Tensor, bias_V: Tensor | None) -> None:
        self.weight_VH, self.bias_V = weight_VH, bias_V
        sizes = tiles(self.weight_VH.device.type)
        self._positions = sizes.logit_positions
        self._tiles = list(torch.split(self.weight_VH, sizes.logit_tokens))
        self._packed = PackedWeights(self._tiles)
        self._of_thread = threading.local()

    def logsumexp(self, normed_PH: Tensor) -> Tensor:
        """Return L = logsumexp of the logits of every position, float32 [P]."""
        found = []
        for rows in torch.split(normed_PH, self._positions):
            parts = self._over(rows, lambda _, logits_PT: self._logsumexp(logits_PT))
            found.append(torch.logsumexp(torch.stack(list(parts), 1), 1))
        return torch.cat(found) if found else normed_PH.new_empty(0, dtype=torch.float32)

    def expected(self, normed_PH: Tensor, logsumexp_P: Tensor, rows_VH: Tensor | None = None) -> Tensor:
        """Return e, each position's mean of the head's rows (or of `rows_VH`) weighted by the probabilities, float32 [P, H]."""
        rows_VH = self.weight_VH if rows_VH is None else rows_VH
        found, given = [], (torch.split(each, self._positions) for each in (normed_PH, logsumexp_P))
        for rows, total_P in zip(*given, strict=True):
            mean_PH = torch.zeros_like(rows, dtype=torch.float32)
            for part_PH in self._over(rows, partial(_expected, rows_VH, total_P)):
                mean_PH += part_PH
            found.append(mean_PH)
        return torch.cat(found) if found else normed_PH.new_empty(normed_PH.shape, dtype=torch.float32)

    def logits_of(self, normed_PH: Tensor, tokens_P: Tensor) -> Tensor:
        """Return the logit of one given token for each position, float32 [P]."""
        logits_P = self.rows_product(normed_PH, tokens_P).float()
        return logits_P if self.bias_V is None else logits_P + self.bias_V[tokens_P].float()

    def rows_product(self, states_PH: Tensor, tokens_P: Tensor) -> Tensor:
        """Return the dot product of each state with the head's row of its token, without the bias, float64 [P]."""
        return (states_PH.float() * self.weight_VH[tokens_P].float()).sum(-1, dtype=torch.float64)

    def _over(self, rows_PH: Tensor, use: Callable[[slice, Tensor], T]) -> Iterator[T]:
        """Yield `use(slice of tokens, their logits [P, T])` of each tile. A tile is freed before the next is computed."""
        first = 0
        for weight_TH in self._tiles:
            tokens = slice(first, first + len(weight_TH))
            first = tokens.stop
            bias_T = None if self.bias_V is None else self.bias_V[tokens]
            yield use(tokens, self._logits(rows_PH, weight_TH, bias_T))

    def _logits(self, rows_PH: Tensor, weight_TH: Tensor, bias_T: Tensor | None) -> Tensor:
        """Return float32 logits [P, T] of a tile. 16-bit logits would be too coarse to show a small change of a model."""
        if rows_PH.dtype == torch.float32:
            return linear(rows_PH, weight_TH, bias_T, self._packed)
        logits_PT = float32_products.product(rows_PH, weight_TH.T)
        return logits_PT if bias_T is None else logits_PT.add_(bias_T)

    def _logsumexp(self, logits_PT: Tensor) -> Tensor:
        """Return logsumexp over a tile, [P], as logit - log_softmax of its first token: the fused kernel takes one pass."""
        if not hasattr(self._of_thread, "tile"):  # scratch, reused by every call of a thread
            self._of_thread.tile = logits_PT.new_empty(self._positions * len(self._tiles[0]))
        spare = cast(Tensor, self._of_thread.tile[: logits_PT.numel()].view(logits_PT.shape))
        return logits_PT[:, 0] - torch.log_softmax(logits_PT, -1, out=spare)[:, 0]


def _expected(rows_VH: Tensor, total_P: Tensor, tokens: slice, logits_PT: Tensor) -> Tensor:
    return logits_PT.sub_(total_P[:, None]).exp_() @ rows_VH[tokens].float()


class Divergence:
    """Divergence from the parent on text, as means over the first `samples` positions, or those of them that count.

    - `kl_divergence`: KL(parent || child), nats.
    - `lm_loss`: cross-entropy of the next token, child - parent, nats; over the positions whose next token is known.
    - `cosine`: 1 - cosine similarity of the final hidden states after the last norm.
    """

    def __init__(
        self, runner: LayerRunner, tokens_NS: Tensor, samples: int, *, learned_NS: Tensor | None = None
    ) -> None:
        """Cut the text into groups. `learned_NS`: the positions that count, bool; all of them unless given."""
        per_group = max(1, tiles(runner.device.type).group_tokens // tokens_NS.shape[1])
        self.groups: Sequence[Tensor] = torch.split(tokens_NS, per_group)
        self._samples = min(samples, tokens_NS.numel())
        following = torch.full_like(tokens_NS, -1)
        following[:, :-1] = tokens_NS[:, 1:]
        labels_P = following.flatten()[: self._samples]
        self._learned_P: Tensor | None = None
        if learned_NS is not None:
            at_P = learned_NS.flatten()[: self._samples].nonzero()[:, 0]
            labels_P, self._learned_P = labels_P[at_P], at_P.to(runner.device)
        labels_P = labels_P.to(runner.device)
        self._labelled = (labels_P >= 0).nonzero()[:, 0]
        self._labels = labels_P[self._labelled]
        self._vocabulary = Vocabulary(*runner.head_weights())
        self._parent: _Parent | None = None

    def samples(self) -> int:
        """Return the number of scored positions."""
        return self._samples if self._learned_P is None else len(self._learned_P)

    def identity(self) -> str:
        """Return a string of everything that metrics depend on besides tokens and models; part of cache keys."""
        identity = f"divergence {self._samples} None"
        if self._learned_P is None:
            return identity
        return f"{identity} {hashlib.sha256(self._learned_P.cpu().numpy().tobytes()).hexdigest()}"

    def set_parent(self, normed: Sequence[Tensor]) -> None:
        """Set the parent's final hidden states after the last norm, one [B, S, H] for each group."""
        states_PH, words = self.states_of(normed), self._vocabulary
        total_P = words.logsumexp(states_PH)
        self._parent = _Parent(states_PH, total_P, words.expected(states_PH, total_P))

    def figures(self, normed: Sequence[Tensor], head_VH: Tensor | None = None) -> Figures:
        """Return a child's metrics from its states after the last norm, one [B, S, H] a group; `head_VH`: a head of its own."""
        parent, child_PH, words = self._parent, self.states_of(normed), self._vocabulary
        assert parent is not None, "set_parent comes first"
        words = words if head_VH is None else Vocabulary(head_VH.to(words.weight_VH), words.bias_V)
        change_PH = child_PH.float() - parent.states_PH.float()
        rise_P = (words.logsumexp(child_PH) - parent.logsumexp_P).double()
        kl_P = rise_P - (change_PH * parent.expected_PH).sum(-1, dtype=torch.float64)
        label_change = self._vocabulary.rows_product(change_PH[self._labelled], self._labels)
        if head_VH is not None:
            given = parent.states_PH, parent.logsumexp_P, words.weight_VH - self._vocabulary.weight_VH
            kl_P -= (child_PH.float() * self._vocabulary.expected(*given)).sum(-1, dtype=torch.float64)
            own = child_PH[self._labelled], self._labels
            label_change += words.rows_product(*own) - self._vocabulary.rows_product(*own)
        similarity_P = torch.cosine_similarity(child_PH.float(), parent.states_PH.float(), dim=-1)
        return {
            "kl_divergence": max(0.0, float(kl_P.mean())),
            "lm_loss": float((rise_P[self._labelled] - label_change).sum()) / max(1, len(self._labels)),
            "cosine": max(0.0, float((1 - similarity_P).mean(dtype=torch.float64))),
        }

    def states_of(self, normed: Sequence[Tensor]) -> Tensor:
        """Return the hidden states [P, H] of the scored positions, from those of all groups after the last norm."""
        states_PH = torch.cat([group.flatten(0, 1) for group in normed])[: self._samples]
        return states_PH if self._learned_P is None else states_PH[self._learned_P]


@dataclass(frozen=True, slots=True)
class _Parent:
    """The parent's data at the scored positions: hidden states and statistics of its logits, not the logits themselves."""

    states_PH: Tensor
    logsumexp_P: Tensor
    expected_PH: Tensor


class Accuracy:
    """`accuracy`: the parent's accuracy on multiple-choice items minus the child's. `encoded`: token ids of each item's choices.

    A model's answer is the choice with the highest log-probability per character (lm-evaluation-harness's `acc_norm`), or the
    highest total log-probability where the item is not `normalised`.
    """

    def __init__(
        self, runner: LayerRunner, items: Sequence[Item], encoded: Sequence[Sequence[EncodedChoice]]
    ) -> None:
        self._vocabulary, self._items = Vocabulary(*runner.head_weights()), items
        flat = [(i, j, choice) for i, choices in enumerate(encoded) for j, choice in enumerate(choices)]
        flat.sort(key=lambda entry: len(entry[2].ids))
        at_once = tiles(runner.device.type).group_tokens
        self._groups = list(padded_batches(flat, lambda entry: len(entry[2].ids), at_once))
        self.groups: Sequence[Tensor] = [_padded([c for _, _, c in group]) for group in self._groups]
        self._targets = [_targets(group) for group in self._groups]
        self._labels = torch.cat([labels for *_, labels in self._targets]).to(runner.device)
        self._parent_accuracy = 0.0

    def samples(self) -> int:
        """Return the number of items."""
        return len(self._items)

    def identity(self) -> str:
        """As `Divergence.identity`."""
        totals = [i for i, item in enumerate(self._items) if not item.normalised]
        asked = repr(list(self._items)) + (repr(totals) if totals else "")
        return f"accuracy {hashlib.sha256(asked.encode()).hexdigest()}"

    def set_parent(self, normed: Sequence[Tensor]) -> None:
        """As `Divergence.set_parent`."""
        self._parent_accuracy = self.accuracy(normed)

    def figures(self, normed: Sequence[Tensor], head_VH: Tensor | None = None) -> Figures:
        """As `Divergence.figures`."""
        return {"accuracy": self._parent_accuracy - self.accuracy(normed, head_VH)}

    def accuracy(self, normed: Sequence[Tensor], head_VH: Tensor | None = None) -> float:
        """Return the fraction of items that a model answers correctly; arguments as in `figures`."""
        words = self._vocabulary
        words = words if head_VH is None else Vocabulary(head_VH.to(words.weight_VH), words.bias_V)
        states_MH = torch.cat([h[rows, at] for (rows, at, _), h in zip(self._targets, normed, strict=True)])
        logits_M = words.logits_of(states_MH, self._labels)
        log_probs_M = (logits_M - words.logsumexp(states_MH)).double().cpu()
        scores = [[0.0] * len(item.choices) for item in self._items]
        flat = [entry for group in self._groups for entry in group]
        lengths = [len(choice.ids) - choice.start for *_, choice in flat]
        for (i, j, _), of_choice in zip(flat, torch.split(log_probs_M, lengths), strict=True):
            item = self._items[i]
            scores[i][j] = float(of_choice.sum()) / (len(item.choices[j]) if item.normalised else 1)
        answers = [max(range(len(each)), key=each.__getitem__) for each in scores]
        right = [answer == item.answer for answer, item in zip(answers, self._items, strict=True)]
        return sum(right) / max(1, len(right))


Measure = Divergence | Accuracy
"""Comparison of a model with the parent on a fixed set of tokens: metrics are 0 for the parent itself, larger is worse."""
Entry = tuple[int, int, EncodedChoice]


def _padded(choices: Sequence[EncodedChoice]) -> Tensor:
    """Return token ids [B, S], padded on the right with 0. With causal attention the padding changes no result."""
    longest = max(len(choice.ids) for choice in choices)
    return torch.tensor([[*choice.ids, *[0] * (longest - len(choice.ids))] for choice in choices])


def _targets(group: Sequence[Entry]) -> tuple[Tensor, Tensor, Tensor]:
    """Return (row, position that predicts the token, token id) of all M tokens of all choices in order, as tensors [M]."""
    found = [
        (row, place - 1, choice.ids[place])
        for row, (_, _, choice) in enumerate(group)
        for place in range(choice.start, len(choice.ids))
    ]
    rows, at, tokens = torch.tensor(found, dtype=torch.long).reshape(-1, 3).T
    return rows, at, tokens
