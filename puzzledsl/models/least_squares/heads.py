"""Fewer attention heads: key/value heads merged with the least change for their query heads, and query heads left out.

A rotary key head is, for each frequency f, one complex number k_f turning with position; the logit is sum_f Re(q_f conj(k_f)).
Multiplying by a complex scalar commutes with the turning, so the heads j of a group may share one key kappa_f with k_jf ~ c_jf
kappa_f: a complex principal component, whose scalar the queries absorb, q_f conj(c_jf) conj(kappa_f). Values have no positions:
the shared D-dimensional value is a principal component analysis of the group's values, in the metric of what W_o makes of them.
Keys without positions (no rotary embedding) are merged as values are, in the metric of their queries; of a partial rotary
embedding, the dimensions that do not turn are paired among themselves.

Query heads are kept by optimal brain surgeon on the output error, a head at a time (as `elimination_order`): with G the Gram
matrix of what the output projection reads and W = W_o', removing the D rows of head h costs tr(W_h' [G^-1]_hh^-1 W_h).

Shapes: N query heads, K key/value heads, J heads of a group, D head_dim, H hidden; weights carry a bias column (H + 1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from puzzledsl.base.frozen import Record
from puzzledsl.ir.nodes import Shape
from puzzledsl.models.least_squares.grams import TOWARDS_START, Gram, damped, inverted, solve_ridge


def kept_heads(gram: Tensor, weight: Tensor, heads: int, groups: int, kept: int) -> list[int]:
    """Return the `kept` of `heads` query heads, ascending, as many of each of the `groups`, by removing the cheapest in turn."""
    dim, size = len(gram) // heads, heads // groups
    inverse_gram, rest = inverted(damped(gram)), weight.to(gram).clone()
    alive = list(range(heads))
    while len(alive) > kept:
        left = [sum(head // size == group for head in alive) for group in range(groups)]
        free = [head for head in alive if left[head // size] > kept // groups]
        gone = min(free, key=lambda head: _cost(inverse_gram, rest, rows_of([head], dim)))
        rows = rows_of([gone], dim)
        gain = torch.linalg.solve(inverse_gram[rows][:, rows], inverse_gram[rows]).T
        rest = rest - gain @ rest[rows]
        inverse_gram = inverse_gram - gain @ inverse_gram[rows]
        alive.remove(gone)
    return alive


def loudest_heads(gram: Tensor, weight: Tensor, heads: int, groups: int, kept: int) -> list[int]:
    """Return `kept` heads, ascending, as many of each group: the largest sums over channels of rms(a_c) * ||W_c||."""
    rms = gram.diagonal().clamp_min(0).sqrt()
    loudness = (rms * weight.to(gram).norm(dim=1)).view(groups, heads // groups, -1).sum(-1)
    top = torch.topk(loudness, kept // groups, dim=1).indices
    offset = torch.arange(groups, device=top.device)[:, None] * (heads // groups)
    return sorted((top + offset).flatten().tolist())


def refit_rows(gram: Gram, weight: Tensor, rows: Tensor) -> Tensor:
    """Return the `rows` of W_o', refitted so that their channels alone give the outputs in `gram`, (len(rows), H), float64."""
    kept = gram.xx[rows][:, rows]
    return solve_ridge(kept, gram.xy[rows], weight.to(gram.xx)[rows], relative=gram.ridge(TOWARDS_START))


def _cost(inverse_gram: Tensor, rest: Tensor, rows: Tensor) -> float:
    own = rest[rows]
    return float((own * torch.linalg.solve(inverse_gram[rows][:, rows], own)).sum())


def rows_of(heads: Sequence[int], dim: int) -> Tensor:
    """Return the indices of these heads' rows in a weight that has `dim` rows a head."""
    return torch.cat([torch.arange(head * dim, (head + 1) * dim) for head in heads])


class Heads(Record):
    """Attention weights by head, float64: q (N, D, H + 1), k and v (K, D, H + 1), o (N, D, H).

    `turning`: number of dimensions of a head that a rotary embedding turns. `normed`: each key head is normalised on its own.
    `key_scale` (K, D): weight of a norm over all key heads together; None without such a norm.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    o: Tensor
    turning: int
    normed: bool = False
    key_scale: Tensor | None = None

    @classmethod
    def of(cls, weights: Mapping[str, Tensor], shape: Shape, turning: int | None = None) -> Self:
        """Split attention weights (by canonical names) into heads. `turning`: None for all dimensions, or 0 without RoPE."""

        def rows(name: str, heads: int) -> Tensor:
            weight = weights[f"{name}.weight"].detach().double()
            own = weights.get(f"{name}.bias")
            bias = torch.zeros_like(weight[:, 0]) if own is None else own.detach().double()
            rows = torch.cat([weight, bias[:, None]], 1)
            found = rows.view(heads, -1, rows.shape[1])
            return found[:, : shape.head_dim]  # each head's rows of an output gate follow

        output = weights["o_proj.weight"].detach().double().T.reshape(shape.heads, shape.head_dim, -1)
        whole = shape.qk_norm and shape.qk_norm_whole
        return cls(
            rows("q_proj", shape.heads),
            rows("k_proj", shape.kv_heads),
            rows("v_proj", shape.kv_heads),
            output,
            turning if turning is not None else shape.head_dim * shape.rope,
            shape.qk_norm and not whole,
            weights["k_norm.weight"].detach().double().view(shape.kv_heads, -1) if whole else None,
        )

    def state_dict(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return these heads under the names and in the dtype of the parent's `weights`, with its other weights."""
        own = {name: value.detach().clone() for name, value in weights.items()}
        if self.key_scale is not None:
            own["k_norm.weight"] = self.key_scale.flatten().to(own["k_norm.weight"]).contiguous()
        for name, rows in (("q_proj", self.q), ("k_proj", self.k), ("v_proj", self.v)):
            for part, value in (("weight", rows[..., :-1]), ("bias", rows[..., -1])):
                if (held := own.get(f"{name}.{part}")) is not None:
                    new = _with_gates(value, held) if name == "q_proj" else value.flatten(0, 1)
                    own[f"{name}.{part}"] = new.to(held).contiguous()
        own["o_proj.weight"] = self.o.flatten(0, 1).T.to(own["o_proj.weight"]).contiguous()
        return own


def _with_gates(rows: Tensor, own: Tensor) -> Tensor:
    """Return rows of queries, each head's followed by those of its output gate in `own`, if there are any."""
    gates = own.view(len(rows), -1, *own.shape[1:])[:, rows.shape[1] :]
    return torch.cat([rows, gates.to(rows)], 1).flatten(0, 1)


def turning_of(config: PreTrainedConfig, shape: Shape) -> int:
    """Return the number of dimensions of a head that the rotary embedding of a layer of this shape turns."""
    rope = getattr(config, "rope_parameters", None) or {}
    return int(shape.head_dim * rope.get("partial_rotary_factor", 1)) if shape.rope else 0


def merge_heads(heads: Heads, kv_heads: int, gram: Tensor) -> Heads:
    """Return `heads` merged to `kv_heads` key/value heads. `gram`: of the inputs and a one, (H + 1, H + 1), float64.

    Query heads keep their order: the first N / kv_heads share the first new head, and so on. A group served by one old
    head keeps it as it is, so merging to as many heads as the parent has changes nothing.
    """
    q, o = heads.q.clone(), heads.o.clone()
    merges = kv_heads % len(heads.k) != 0
    scale = heads.key_scale
    old_keys = heads.k * scale[..., None] if merges and scale is not None else heads.k
    keys, values = [], []
    for queries, old in groups(len(q), len(heads.k), kv_heads):
        members = sorted(set(old))
        if len(members) == 1:
            keys.append(old_keys[members[0]])
            values.append(heads.v[members[0]])
            continue
        place = [members.index(j) for j in old]
        if heads.normed or scale is not None:
            keys.append(_mean_direction(old_keys[members], gram))
        elif not heads.turning:
            key, lift = _shared(old_keys[members], heads.q[queries] @ _root(gram), place, gram)
            keys.append(key)
            q[queries] = lift[place].transpose(1, 2) @ heads.q[queries]
        else:
            asked = _complex(heads.q[queries], heads.turning)
            key, scalars = _shared_key(_complex(old_keys[members], heads.turning), asked, place, gram)
            keys.append(_real(key, heads.turning))
            turned = asked * scalars[place].conj()[..., None]
            q[queries] = _real(turned, heads.turning)
        value, lift = _shared(heads.v[members], heads.o[queries], place, gram)
        values.append(value)
        o[queries] = lift[place].transpose(1, 2) @ heads.o[queries]
    found = replace(heads, q=q, k=torch.stack(keys), v=torch.stack(values), o=o)
    if scale is None:
        return found
    if merges:
        return _rescaled(found, heads, gram)
    return replace(found, key_scale=torch.cat([scale[m] for m in _members(heads, kv_heads)]))


def mean_pool(heads: Heads, kv_heads: int) -> Heads:
    """Keys and values averaged over each group (GQA, arXiv 2305.13245; Puzzle, section 3), scales of keys as well."""
    members = _members(heads, kv_heads)
    keys, values = (torch.stack([rows[m].mean(0) for m in members]) for rows in (heads.k, heads.v))
    scale = heads.key_scale
    scale = None if scale is None else torch.stack([scale[m].mean(0) for m in members])
    return replace(heads, k=keys, v=values, key_scale=scale)


def _members(heads: Heads, kv_heads: int) -> list[list[int]]:
    """For each new head, the old heads that it stands for."""
    return [sorted(set(old)) for _, old in groups(len(heads.q), len(heads.k), kv_heads)]


def _rescaled(merged: Heads, heads: Heads, gram: Tensor) -> Heads:
    """Split merged keys, which have the old norm's scales in them, into keys and scales of a norm over the new heads.

    New scales are quadratic means of a group's. They make up for the new keys' mean square, by which the norm divides.
    """
    assert heads.key_scale is not None
    squares = [heads.key_scale[m].square().mean(0) for m in _members(heads, len(merged.k))]
    scale = torch.stack(squares).sqrt().clamp_min(1e-12)
    keys = merged.k / scale[..., None]
    old, new = (float(((k @ gram) * k).sum(-1).mean()) for k in (heads.k, keys))
    return replace(merged, k=keys, key_scale=scale * (new / max(old, 1e-300)) ** 0.5)


def groups(query_heads: int, old_kv_heads: int, new_kv_heads: int) -> list[tuple[list[int], list[int]]]:
    """For each new head: its query heads, and the old head that each of them reads."""
    size, old_size = query_heads // new_kv_heads, query_heads // old_kv_heads
    found = []
    for new in range(new_kv_heads):
        queries = list(range(new * size, (new + 1) * size))
        found.append((queries, [query // old_size for query in queries]))
    return found


def _complex(rows: Tensor, turning: int) -> Tensor:
    """(…, D, P) -> (…, D / 2, P) complex: f is paired with f + R / 2 of the R dimensions that turn, others likewise."""
    parts = [part for part in (rows[..., :turning, :], rows[..., turning:, :]) if part.shape[-2]]
    halves = [(part[..., : part.shape[-2] // 2, :], part[..., part.shape[-2] // 2 :, :]) for part in parts]
    return torch.cat([torch.complex(first, second) for first, second in halves], -2)


def _real(rows: Tensor, turning: int) -> Tensor:
    """Undo `_complex`."""
    parts = [part for part in (rows[..., : turning // 2, :], rows[..., turning // 2 :, :]) if part.shape[-2]]
    return torch.cat([half for part in parts for half in (part.real, part.imag)], -2)


def _root(gram: Tensor) -> Tensor:
    """A square root R of a Gram matrix: R R' = gram."""
    levels, axes = torch.linalg.eigh((gram + gram.T) / 2)
    root: Tensor = axes * levels.clamp_min(0).sqrt()
    return root


def _shared_key(k_JFH: Tensor, q_QFH: Tensor, place: list[int], gram: Tensor) -> tuple[Tensor, Tensor]:
    """The shared key (D / 2, H + 1) and each old head's scalar (J, D / 2), complex; from complex keys and queries.

    For each frequency, a head weighs as much as the energy of the queries that read it. `place`: for each query, its old head.
    """
    k, q = k_JFH.transpose(0, 1), q_QFH  # (D/2, J, H + 1), (Q, D/2, H + 1)
    metric = gram.to(k.dtype)
    energy = ((q @ metric) * q.conj()).sum(-1).real  # (Q, D/2)
    weight = torch.zeros(len(k_JFH), k.shape[0], dtype=energy.dtype, device=energy.device)
    _add_rows(weight, place, energy)
    root = (weight / weight.mean().clamp_min(1e-300)).clamp_min(1e-9).sqrt().T  # (D/2, J)
    covariance = k @ metric @ k.mH
    weighted = root[..., None] * covariance * root[:, None, :]
    top = torch.linalg.eigh((weighted + weighted.mH) / 2).eigenvectors[..., -1]  # (D/2, J)
    key = ((top.conj() * root)[..., None] * k).sum(1)  # (D/2, H + 1)
    # the key as large as the old ones, so that rounding treats it alike
    power = ((key @ metric) * key.conj()).sum(-1).real
    usual = covariance.diagonal(dim1=-2, dim2=-1).real.mean(-1)
    scale = (power / usual.clamp_min(1e-300)).sqrt().clamp_min(1e-12)
    return key / scale[:, None], (top / root * scale[:, None]).T


def _add_rows(sums: Tensor, place: list[int], rows: Tensor) -> None:
    """Add each row to its place in `sums`, in order: `index_add_` takes any order on a GPU."""
    for index, row in zip(place, rows, strict=True):
        sums[index] += row


def _mean_direction(k_JDH: Tensor, gram: Tensor) -> Tensor:
    """The shared key where keys are normalised after projection: the mean of keys made equally long."""
    power = ((k_JDH @ gram) * k_JDH).sum(-1).mean(-1)  # (J,)
    return (k_JDH / power.clamp_min(1e-300).sqrt()[:, None, None]).mean(0) * power.mean().sqrt()


def _shared(v_JDH: Tensor, o_QDH: Tensor, place: list[int], gram: Tensor) -> tuple[Tensor, Tensor]:
    """The shared value (D, H + 1) and the map back to each old head's value (J, D, D): v_j ~ lift_j @ shared.

    `o_QDH`: what reads the values; for keys, queries times a root of the inputs' Gram matrix. `place`: each reader's old head.
    """
    members, dim = v_JDH.shape[:2]
    metric = torch.zeros(members, dim, dim, dtype=v_JDH.dtype, device=v_JDH.device)
    _add_rows(metric, place, o_QDH @ o_QDH.transpose(1, 2))
    levels, axes = torch.linalg.eigh(metric / metric.diagonal(dim1=1, dim2=2).mean().clamp_min(1e-300))
    levels = levels.clamp_min(1e-6).sqrt()
    root = (axes * levels[:, None, :]) @ axes.transpose(1, 2)
    back = (axes / levels[:, None, :]) @ axes.transpose(1, 2)
    weighted = (root @ v_JDH).flatten(0, 1)  # (J * D, H + 1)
    covariance = weighted @ gram @ weighted.T
    basis = torch.linalg.eigh((covariance + covariance.T) / 2).eigenvectors[:, -dim:]  # (J * D, D)
    return basis.T @ weighted, back @ basis.view(members, dim, dim)
