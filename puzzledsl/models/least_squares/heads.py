"""Fewer key/value heads: merge the parent's so that its query heads notice least.

A rotary key head is, for each frequency f, one complex number k_f turning with position; the logit is
sum_f Re(q_f conj(k_f)). Multiplying by a complex scalar commutes with the turning, so the heads j of a group may share
one key kappa_f with k_jf ~ c_jf kappa_f: a complex principal component, whose scalar the queries absorb,
q_f conj(c_jf) conj(kappa_f). Values have no positions: the shared D-dimensional value is a principal component analysis
of the group's values, in the metric of what W_o makes of them.

Shapes: N query heads, K key/value heads, J heads of a group, D head_dim, H hidden; weights carry a bias column (H + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from puzzledsl.ir.nodes import Shape


@dataclass(frozen=True)
class Heads:
    """Attention weights by head, float64: q (N, D, H + 1), k and v (K, D, H + 1), o (N, D, H)."""

    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor

    @classmethod
    def of(cls, attention: nn.Module, shape: Shape) -> Heads:
        """Split a parent's attention into heads."""
        held: Any = attention

        def rows(linear: nn.Linear, heads: int) -> Tensor:
            weight = linear.weight.detach().double()
            own: Tensor | None = cast(Any, linear).bias
            bias = torch.zeros_like(weight[:, 0]) if own is None else own.detach().double()
            return torch.cat([weight, bias[:, None]], 1).view(heads, shape.head_dim, -1)

        output = held.o_proj.weight.detach().double().T.reshape(shape.heads, shape.head_dim, -1)
        return cls(
            rows(held.q_proj, shape.heads),
            rows(held.k_proj, shape.kv_heads),
            rows(held.v_proj, shape.kv_heads),
            output,
        )

    def state_dict(self, attention: nn.Module) -> dict[str, Tensor]:
        """Weights under the names and in the dtype of `attention`; what is not a head (norms, output bias) is its own."""
        own = {name: value.detach().clone() for name, value in attention.state_dict().items()}
        for name, rows in (("q_proj", self.q), ("k_proj", self.k), ("v_proj", self.v)):
            flat = rows.flatten(0, 1)
            for part, value in (("weight", flat[:, :-1]), ("bias", flat[:, -1])):
                if f"{name}.{part}" in own:
                    own[f"{name}.{part}"] = value.to(own[f"{name}.{part}"]).contiguous()
        own["o_proj.weight"] = self.o.flatten(0, 1).T.to(own["o_proj.weight"]).contiguous()
        return own


def merge_heads(heads: Heads, kv_heads: int, gram: Tensor, *, qk_norm: bool) -> Heads:
    """`heads` with `kv_heads` key/value heads; `gram` is the inputs' with a column of ones (H + 1, H + 1), float64.

    Query heads keep their order: the first N / kv_heads share the first new head, and so on. A group served by one old
    head keeps it as it is, so as many heads as the parent's give the parent's weights.
    """
    q, o = heads.q.clone(), heads.o.clone()
    keys, values = [], []
    for queries, old in groups(len(q), len(heads.k), kv_heads):
        members = sorted(set(old))
        if len(members) == 1:
            keys.append(heads.k[members[0]])
            values.append(heads.v[members[0]])
            continue
        place = [members.index(j) for j in old]
        if qk_norm:
            keys.append(_mean_direction(heads.k[members], gram))
        else:
            key, scalars = _shared_key(heads.k[members], heads.q[queries], place, gram)
            keys.append(key)
            q[queries] = _real(_complex(heads.q[queries]) * scalars[place].conj()[..., None])
        value, lift = _shared_value(heads.v[members], heads.o[queries], place, gram)
        values.append(value)
        o[queries] = lift[place].transpose(1, 2) @ heads.o[queries]
    return Heads(q, torch.stack(keys), torch.stack(values), o)


def mean_pool(heads: Heads, kv_heads: int) -> Heads:
    """Keys and values averaged over each group (GQA, arXiv 2305.13245; Puzzle, section 3)."""
    members = [sorted(set(old)) for _, old in groups(len(heads.q), len(heads.k), kv_heads)]
    keys, values = (torch.stack([rows[m].mean(0) for m in members]) for rows in (heads.k, heads.v))
    return Heads(heads.q, keys, values, heads.o)


def groups(query_heads: int, old_kv_heads: int, new_kv_heads: int) -> list[tuple[list[int], list[int]]]:
    """For each new head: its query heads, and the old head that each of them reads."""
    size, old_size = query_heads // new_kv_heads, query_heads // old_kv_heads
    found = []
    for new in range(new_kv_heads):
        queries = list(range(new * size, (new + 1) * size))
        found.append((queries, [query // old_size for query in queries]))
    return found


def _complex(rows: Tensor) -> Tensor:
    """(…, D, P) -> (…, D / 2, P) complex: rotary embedding pairs dimension f with f + D / 2."""
    half = rows.shape[-2] // 2
    return torch.complex(rows[..., :half, :], rows[..., half:, :])


def _real(rows: Tensor) -> Tensor:
    return torch.cat([rows.real, rows.imag], -2)


def _shared_key(k_JDH: Tensor, q_QDH: Tensor, place: list[int], gram: Tensor) -> tuple[Tensor, Tensor]:
    """The shared key (D, H + 1) and each old head's scalar (J, D / 2), complex.

    Heads weigh as much as the energy of the queries that read them, for each frequency.
    """
    k, q = (
        _complex(k_JDH).transpose(0, 1),
        _complex(q_QDH),
    )  # (D/2, J, H + 1), (Q, D/2, H + 1)
    metric = gram.to(k.dtype)
    energy = ((q @ metric) * q.conj()).sum(-1).real  # (Q, D/2)
    weight = torch.zeros(len(k_JDH), k.shape[0], dtype=energy.dtype, device=energy.device)
    weight.index_add_(0, torch.tensor(place, device=energy.device), energy)
    root = (weight / weight.mean().clamp_min(1e-300)).clamp_min(1e-9).sqrt().T  # (D/2, J)
    covariance = k @ metric @ k.mH
    weighted = root[..., None] * covariance * root[:, None, :]
    top = torch.linalg.eigh((weighted + weighted.mH) / 2).eigenvectors[..., -1]  # (D/2, J)
    key = ((top.conj() * root)[..., None] * k).sum(1)  # (D/2, H + 1)
    # the key as large as the old ones, so that rounding treats it alike
    power = ((key @ metric) * key.conj()).sum(-1).real
    usual = covariance.diagonal(dim1=-2, dim2=-1).real.mean(-1)
    scale = (power / usual.clamp_min(1e-300)).sqrt().clamp_min(1e-12)
    return _real(key / scale[:, None]), (top / root * scale[:, None]).T


def _mean_direction(k_JDH: Tensor, gram: Tensor) -> Tensor:
    """The shared key where keys are normalised after projection: the mean of keys made equally long."""
    power = ((k_JDH @ gram) * k_JDH).sum(-1).mean(-1)  # (J,)
    return (k_JDH / power.clamp_min(1e-300).sqrt()[:, None, None]).mean(0) * power.mean().sqrt()


def _shared_value(v_JDH: Tensor, o_QDH: Tensor, place: list[int], gram: Tensor) -> tuple[Tensor, Tensor]:
    """The shared value (D, H + 1) and the map back to each old head's value (J, D, D): v_j ~ lift_j @ shared."""
    members, dim = v_JDH.shape[:2]
    metric = torch.zeros(members, dim, dim, dtype=v_JDH.dtype, device=v_JDH.device)
    metric.index_add_(0, torch.tensor(place, device=v_JDH.device), o_QDH @ o_QDH.transpose(1, 2))
    levels, axes = torch.linalg.eigh(metric / metric.diagonal(dim1=1, dim2=2).mean().clamp_min(1e-300))
    levels = levels.clamp_min(1e-6).sqrt()
    root = (axes * levels[:, None, :]) @ axes.transpose(1, 2)
    back = (axes / levels[:, None, :]) @ axes.transpose(1, 2)
    weighted = (root @ v_JDH).flatten(0, 1)  # (J * D, H + 1)
    covariance = weighted @ gram @ weighted.T
    basis = torch.linalg.eigh((covariance + covariance.T) / 2).eigenvectors[:, -dim:]  # (J * D, D)
    return basis.T @ weighted, back @ basis.view(members, dim, dim)
