"""Laws of two processes, each with a part of both models. Both run them together, as test_two_ranks.py starts them:

`PZL_TEST_BASE=FOLDER torchrun --nproc-per-node=2 -m pytest tests/uptrain/two_ranks.py`. Processes take the same steps in the same
order: what one of them waits for, the other does, too.
"""

from __future__ import annotations

import gc
import json
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch.distributed.tensor import Shard, distribute_tensor

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.ir.nodes import Program
from puzzledsl.models.errors import OtherVocabulary
from puzzledsl.models.families import tensors
from puzzledsl.models.families.access import layers
from puzzledsl.models.families.load import load_parent
from puzzledsl.uptrain import ranks as cutting
from puzzledsl.uptrain import run, train
from puzzledsl.uptrain.ranks import Ranks, gathered, join, leave, local, ranks_of
from puzzledsl.uptrain.state import Store
from puzzledsl.uptrain.train import PLAIN, Trainer
from tests.child.checkpoint.test_hybrid_children import LAYERS, MIXED
from tests.children import Choice, define, random_pieces
from tests.tiny import DENSE, HYBRIDS, MIXTURES, save_tiny, tiny_tokens
from tests.uptrain.cases import Case, Interrupted, Recorder
from tests.uptrain.cases import run as train_case

CPU = torch.device("cpu")
FAMILIES = (*DENSE, *MIXTURES, *HYBRIDS)
DENSE_LAYERS: tuple[Choice, ...] = (
    (NoOpAttention(), MlpFfn(width=17)),
    (GqaAttention(kv_heads=1), ParentFfn()),
    (GqaAttention(kv_heads=2, window=5), ParentFfn()),
)
MIXTURE_LAYERS: tuple[Choice, ...] = (
    (GqaAttention(kv_heads=1), MoeFfn(experts=3, top_k=1, width=8)),
    (ParentAttention(), MlpFfn(width=12)),
    (NoOpAttention(), ParentFfn()),
)
STOP = 7


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    found = ranks_of()
    join(found)
    yield found
    leave()


@pytest.fixture(scope="module")
def base() -> Path:
    return Path(os.environ["PZL_TEST_BASE"])


def save_family(base: Path, family: str) -> None:
    """A parent and a child with replaced sub-blocks; every second parent has a tied embedding."""
    layers = MIXED.get(family) or (MIXTURE_LAYERS if family in MIXTURES else DENSE_LAYERS)
    tied = FAMILIES.index(family) % 2 == 0
    parent = save_tiny(base / "parent", family, layers=LAYERS.get(family, len(layers)), tied=tied)
    realise(define(layers), parent, random_pieces(load_parent(parent), layers), base / "child")


@pytest.mark.parametrize("family", FAMILIES)
def test_each_reads_its_half_of_parent_and_child(ranks, base, monkeypatch, family) -> None:
    """Weights are those of the files to the bit, half of them are held, and a forward pass is that of the whole models."""
    ranks.from_first(lambda: save_family(base / family, family))
    paths = base / family / "parent", base / family / "child"
    reads, real = [], tensors._read

    def counted(path: Path, offset: int, nbytes: int, *rest: Any) -> torch.Tensor:
        reads.append(nbytes)
        return real(path, offset, nbytes, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(tensors, "_read", counted)
        sharding = run.sharding_of(PLAIN, ranks, CPU, bf16=False)
        cut = run.models(*paths, CPU, torch.float32, sharding, bf16=False)
    cutting._prefetch([*layers(cut[1].model)])  # as on a GPU: it changes nothing but times
    whole, ids = (load_parent(paths[0]), load_child(paths[1])), tiny_tokens(2, 12)
    for ours, theirs in zip(cut, whole, strict=True):
        stored = {name: value for name, value in theirs.named_buffers() if value.numel()}
        wanted = dict(theirs.named_parameters()) | stored
        got = dict(ours.model.named_parameters()) | dict(ours.model.named_buffers())
        assert wanted.keys() == got.keys()
        for name, value in wanted.items():
            assert torch.equal(gathered(got[name].detach()), value), name
        rows = sum(-(-len(w) // 2) * w[0].numel() for w in theirs.parameters())
        assert sum(local(w).numel() for w in ours.model.parameters()) <= rows
    target = cut[0](ids, True)
    expected = whole[0].base_model(input_ids=ids, use_cache=False).last_hidden_state
    divisor = getattr(whole[0].config, "logits_scaling", 1)
    torch.testing.assert_close(target.hidden.final, expected / divisor, rtol=0, atol=1e-4)
    with torch.no_grad():
        kl = float(cut[1](ids, target, None))
        log_p, log_q = (model(ids).logits.double().log_softmax(-1) for model in whole)
    assert kl == pytest.approx(float((log_p.exp() * (log_p - log_q)).sum(-1).mean()), rel=1e-4, abs=1e-4)
    cutting.reshard(cut[0])
    sizes = [tensor.nbytes for path in paths for tensor in tensors.open_weights(path).values()]
    if family in DENSE:
        assert sum(reads) < 0.55 * sum(sizes) and max(reads) <= 0.5 * max(sizes)


def test_a_torn_checkpoint_is_never_read(ranks, base) -> None:
    """Every file of it cut at random places, changed or removed: nobody reads any of it."""
    folder, dice, own = base / "torn", random.Random(0), f"own{ranks.rank}"
    saved = {"one": torch.full((300,), 1.0 + ranks.rank), own: torch.arange(900.0)}
    store = Store(folder, ranks)
    store.save("state", saved, {"step": "3"})
    assert store.contents("state") == ({"one", "own0", "own1"}, {"step": "3"})
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert [path.name for path in files] == ["state-0-0.safetensors", "state-0-1.safetensors", "state.json"]
    ranks.barrier()
    for path in files:
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 1
        cuts = [0, len(content) - 1, *(dice.randrange(len(content)) for _ in range(3))]
        for damaged in (*(content[:cut] for cut in cuts), bytes(flipped), None):
            ranks.barrier()
            if ranks.leads:
                path.write_bytes(damaged or b"")
                if damaged is None:
                    path.unlink()
            ranks.barrier()
            assert Store(folder, ranks).contents("state") is None
            with pytest.raises(DiagnosticError):
                Store(folder, ranks).load("state", {"one": torch.zeros(300)})
        ranks.barrier()
        if ranks.leads:
            path.write_bytes(content)
        ranks.barrier()
    again = {own: torch.zeros(900)}
    Store(folder, ranks).load("state", again)
    assert torch.equal(again[own], saved[own])


def test_rank_0_decides_what_is_read(ranks, base, monkeypatch) -> None:
    """Rank 1 sees an old pointer, as on a network's file system: what rank 0 sees holds."""
    store = Store(base / "disagreeing", ranks)
    store.save("state", {"one": torch.zeros(3)}, {"step": "1"})
    ranks.barrier()
    old = store._present("state")
    ranks.barrier()
    store.save("state", {"one": torch.ones(3)}, {"step": "2"})
    if not ranks.leads:
        monkeypatch.setattr(store, "_present", lambda key: old)
    one = torch.zeros(3)
    assert store.contents("state") == ({"one"}, {"step": "2"})
    store.load("state", {"one": one})
    assert (one == 1).all()


def test_rank_0_computes_for_all_and_fails_for_all(ranks) -> None:
    asked = []
    assert ranks.from_first(lambda: asked.append(1) or Path("x")) == Path("x")
    assert len(asked) == (1 if ranks.leads else 0)

    def fail() -> None:
        raise DiagnosticError(OtherVocabulary(None, name="u", child=1, parent=2))

    with pytest.raises(DiagnosticError, match="E1704"):
        ranks.from_first(fail)


def test_a_run_of_one_process_goes_on_with_two_and_back(ranks, base) -> None:
    whole = {"cut": torch.arange(15.0).view(5, 3), "same": torch.arange(4.0)}
    ranks.from_first(lambda: Store(base / "one").save("state", whole, {"step": "7"}))
    into = {"cut": distribute_tensor(torch.zeros(5, 3), ranks.mesh(), [Shard(0)]), "same": torch.zeros(4)}
    store, back = Store(base / "one", ranks), Store(base / "two")
    assert store.contents("state") == (set(whole), {"step": "7"})
    store.load("state", into)
    assert torch.equal(gathered(into["cut"]), whole["cut"]) and torch.equal(into["same"], whole["same"])
    Store(base / "two", ranks).save("state", into, {"step": "8"})
    ranks.barrier()
    again = {name: torch.zeros_like(value) for name, value in whole.items()}
    assert back.contents("state") == (set(whole), {"step": "8"})
    back.load("state", again)
    assert all(torch.equal(again[name], value) for name, value in whole.items())
    ranks.barrier()
    ranks.from_first(lambda: back.save("state", again, {"step": "9"}))
    assert sorted(path.name for path in back.folder.iterdir()) == ["state-1-0.safetensors", "state.json"]


def assert_near(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    assert len(ours) == len(theirs) > 0
    for one, two in zip(ours, theirs, strict=True):
        assert one == pytest.approx(two, abs=1e-4)


@pytest.mark.parametrize("text", ["documents", "answers"])
def test_a_sharded_run_is_that_of_one_process_and_resumes_to_the_bit(ranks, base, monkeypatch, text) -> None:
    """Each process holds half of parent and child; only rank 0 hashes and tokenises. `alone`: by one process, before."""
    case = Case(base / text, Program.from_json((base / text / "program.json").read_text()))
    alone = json.loads((base / text / "alone.json").read_text())
    hashed, tokenised, trainers = [], [], []
    real_hash, real_rows, real_run, real_means = run.sha256_of, run.token_rows, Trainer.run, run.means_for
    monkeypatch.setattr(run, "sha256_of", lambda path: hashed.append(path) or real_hash(path))
    monkeypatch.setattr(run, "token_rows", lambda *a, **k: tokenised.append(1) or real_rows(*a, **k))
    monkeypatch.setattr(Trainer, "run", lambda self: trainers.append(self) or real_run(self))

    def trained(out: str, limit: int | None = None) -> Recorder:
        progress = Recorder(limit=limit)
        train_case(case, case.base / out, case.base / "work", progress, ranks=ranks)
        return progress

    whole = trained("whole")
    assert [bool(hashed), bool(tokenised)] == [ranks.leads, ranks.leads]
    steps = whole.named("uptrain_step")
    assert_near(steps, alone["uptrain_step"])
    assert_near(whole.named("uptrain_heldout"), alone["uptrain_heldout"])
    assert len(steps) == 20 and steps[-1]["loss"] < 0.9 * steps[0]["loss"]
    for model in (trainers[0].teacher.model, trainers[0].child):
        share = sum(local(w).numel() for w in model.parameters()) / sum(w.numel() for w in model.parameters())
        assert 0.45 <= share <= 0.55
    ours, theirs = (load_file(case.base / name / "model.safetensors") for name in ("whole", "alone"))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=2e-4)
    assert {p.name for p in (case.base / "whole").iterdir()} == {
        p.name for p in (case.base / "alone").iterdir()
    }
    load_child(case.base / "whole")
    monkeypatch.setattr(train, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(train, "CHECKPOINT_SHARE", 1e9)  # after every step
    with pytest.raises(Interrupted):
        trained("resumed", STOP)
    monkeypatch.setattr(train, "CHECKPOINT_SHARE", 1e-9)  # never again
    resumed = trained("resumed")
    assert resumed.named("uptrain_resumed")[0]["step"] == STOP - 1
    assert resumed.named("uptrain_step") == steps[STOP - 1 :]
    one, two = (case.base / name / "model.safetensors" for name in ("resumed", "whole"))
    assert one.read_bytes() == two.read_bytes() and not (case.base / "work").exists()
    monkeypatch.setattr(run, "means_for", lambda *a: replace(real_means(*a), offload=True))
    assert_near(trained("offloaded").named("uptrain_step"), alone["uptrain_step"])


def anonymous_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


class Peak:
    """The largest anonymous memory in each phase, sampled, beyond what there was before the models were opened."""

    def __init__(self) -> None:
        self.bytes, self.base, self.found = 0, 0, dict[str, list[int]]()
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        while True:
            self.bytes = max(self.bytes, anonymous_bytes())
            time.sleep(0.001)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        gc.collect()
        self.bytes = before = anonymous_bytes()
        self.base = self.base or before
        yield
        at_most = max(self.bytes, anonymous_bytes())
        self.found.setdefault(name, []).append(at_most - self.base)
        self.found.setdefault(f"{name} alone", []).append(at_most - before)

    def during(self, name: str, real: Any) -> Any:
        def called(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name):
                return real(*args, **kwargs)

        return called


def stored_bytes(directory: Path) -> int:
    """Bytes of a checkpoint's weights as float32."""
    with safe_open(directory / "model.safetensors", framework="pt") as file:
        return sum(4 * file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118


def test_memory_is_half_of_both_models_and_about_a_layer(ranks, base, monkeypatch) -> None:
    """A step takes the child's gradient and two moments beside its weights. In the backward pass two layers' weights and
    gradients are whole, each twice while it is sent. Export gathers a tensor at a time.
    """
    case, peak = Case(base, Program.from_json((base / "program.json").read_text())), Peak()
    for place, name in ((run, "models"), (Trainer, "step"), (run, "write_child"), (run, "read_along")):
        monkeypatch.setattr(place, name, peak.during(name, getattr(place, name)))
    train_case(case, base / "out", base / "work", Recorder(), ranks=ranks)
    parent, child = stored_bytes(case.parent), stored_bytes(case.child)
    layer, allocator = 4 * (4 * 512 * 512 + 3 * 512 * 2048 + 2 * 512), 4 << 20
    (opened,), steps = peak.found["models"], peak.found["step"]
    assert 0.45 * (parent + child) < opened <= (parent + child) / 2 + layer
    assert len(steps) == 2 and max(steps) <= (parent + 4 * child) / 2 + 8 * layer
    (export,) = peak.found["write_child alone" if ranks.leads else "read_along alone"]
    assert export <= layer + allocator
