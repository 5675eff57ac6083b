"""Figures that two processes under torchrun find together: `torchrun -m tests.uptrain.two_ranks BASE`.

BASE/families has a parent and a child of each family, BASE/case, where there is one, a prepared case. Rank 0 leaves
BASE/found-0.json, rank 1 BASE/found-1.json.
"""

import json
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch.distributed.tensor import Shard, distribute_tensor

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.child.checkpoint.contents import load_child
from puzzledsl.ir.nodes import Program
from puzzledsl.models.errors import OtherVocabulary
from puzzledsl.models.families import tensors
from puzzledsl.models.families.access import layers
from puzzledsl.models.families.load import load_parent
from puzzledsl.uptrain import ranks as cutting
from puzzledsl.uptrain import run, train
from puzzledsl.uptrain.ranks import Ranks, join, leave, ranks_of
from puzzledsl.uptrain.run import models, sharding_of
from puzzledsl.uptrain.state import Store
from puzzledsl.uptrain.train import PLAIN
from tests.interrupting import Interrupted, Recorder
from tests.tiny import tiny_tokens

CPU = torch.device("cpu")


@contextmanager
def largest_read() -> Iterator[list[int]]:
    """Collect the bytes of each read of a checkpoint."""
    real, seen = tensors._read, []

    def spied(path: Path, offset: int, nbytes: int, *rest: Any) -> torch.Tensor:
        seen.append(nbytes)
        return real(path, offset, nbytes, *rest)

    tensors._read = spied  # type: ignore[assignment]
    try:
        yield seen
    finally:
        tensors._read = real


def families(base: Path, ranks: Ranks) -> dict[str, Any]:
    """Sharded models against whole ones: weights to the bit, held shares, and a forward pass."""
    found: dict[str, Any] = {}
    for directory in sorted((base / "families").iterdir()):
        paths = directory / "parent", directory / "child"
        sharding = sharding_of(PLAIN, ranks, CPU, bf16=False)
        with largest_read() as reads:
            cut = models(*paths, CPU, torch.float32, sharding, bf16=False)
        cutting._prefetch([*layers(cut[1].model)])  # as on a GPU: it changes nothing but times
        whole = load_parent(paths[0]), load_child(paths[1])
        ids, entry = tiny_tokens(2, 12), {}
        for name, ours, theirs in zip(("parent", "child"), cut, whole, strict=True):
            wanted = dict(theirs.named_parameters()) | {
                key: value for key, value in theirs.named_buffers() if value.numel()
            }
            got = dict(ours.model.named_parameters()) | dict(ours.model.named_buffers())
            entry[name] = {
                "equal": wanted.keys() == got.keys()
                and all(
                    torch.equal(cutting.gathered(got[key].detach()), value) for key, value in wanted.items()
                ),
                "held": sum(cutting.local(w).numel() for w in ours.model.parameters()),
                "rows": sum(-(-len(w) // 2) * w[0].numel() for w in theirs.parameters()),
            }
        target = cut[0](ids, True)
        expected = whole[0].base_model(input_ids=ids, use_cache=False).last_hidden_state
        divisor = getattr(whole[0].config, "logits_scaling", 1)
        entry["parent"]["off"] = float((target.final - expected / divisor).abs().max())
        with torch.no_grad():
            kl = float(cut[1](ids, target, None))
            log_p, log_q = (model(ids).logits.double().log_softmax(-1) for model in whole)
        entry["child"]["off"] = abs(kl - float((log_p.exp() * (log_p - log_q)).sum(-1).mean())) / max(kl, 1.0)
        cutting.reshard(cut[0])
        stored = [tensor.nbytes for path in paths for tensor in tensors.open_weights(path).values()]
        entry["reads"] = {"sum": sum(reads) / sum(stored), "largest": max(reads) / max(stored)}
        found[directory.name] = entry
    return found


def torn(base: Path, ranks: Ranks) -> dict[str, Any]:
    """Every file of a checkpoint cut at random places, changed or removed: nobody reads any of it."""
    folder, dice = base / "torn", random.Random(0)
    saved = {"one": torch.full((300,), 1.0 + ranks.rank), f"own{ranks.rank}": torch.arange(900.0)}
    store = Store(folder, ranks)
    store.save("state", saved, {"step": "3"})
    intact = store.contents("state")
    ranks.barrier()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    read, loaded = [], []
    for path in files:
        content = path.read_bytes()
        cuts = [0, len(content) - 1, *(dice.randrange(len(content)) for _ in range(3))]
        for cut in (*cuts, -1, -2):
            ranks.barrier()
            if ranks.leads:
                flipped = bytearray(content)
                flipped[len(content) // 2] ^= 1
                path.write_bytes(bytes(flipped) if cut == -1 else content[:cut])
                if cut == -2:
                    path.unlink()
            ranks.barrier()
            fresh = Store(folder, ranks)
            read.append(fresh.contents("state") is not None)
            try:
                Store(folder, ranks).load("state", {"one": torch.zeros(300)})
                loaded.append(True)
            except DiagnosticError:
                loaded.append(False)
        ranks.barrier()
        if ranks.leads:
            path.write_bytes(content)
        ranks.barrier()
    again = {f"own{ranks.rank}": torch.zeros(900)}
    Store(folder, ranks).load("state", again)
    return {
        "files": [path.name for path in files],
        "intact": intact is not None and intact[1] == {"step": "3"},
        "read": read,
        "loaded": loaded,
        "restored": torch.equal(again[f"own{ranks.rank}"], torch.arange(900.0)),
    }


def disagreeing(base: Path, ranks: Ranks) -> bool:
    """Rank 1 sees an old pointer, as on a network's file system: what rank 0 sees holds."""
    folder = base / "disagreeing"
    store = Store(folder, ranks)
    store.save("state", {"one": torch.zeros(3)}, {"step": "1"})
    ranks.barrier()
    old = store._present("state")
    ranks.barrier()
    store.save("state", {"one": torch.ones(3)}, {"step": "2"})
    with ExitStack() as stack:
        if not ranks.leads:
            stack.enter_context(mock.patch.object(Store, "_present", return_value=old))
        found, one = store.contents("state"), torch.zeros(3)
        store.load("state", {"one": one})
    return found is not None and found[1] == {"step": "2"} and bool((one == 1).all())


def of_one(base: Path, ranks: Ranks) -> bool:
    """A set that one process wrote is read by two, each its rows; two write it again, for one to read (`of_two`)."""
    whole = {"cut": torch.arange(15.0).view(5, 3), "same": torch.arange(4.0)}
    cut = distribute_tensor(torch.zeros(5, 3), ranks.mesh(), [Shard(0)])
    into = {"cut": cut, "same": torch.zeros(4)}
    store = Store(base / "of_one", ranks)
    found = store.contents("state")
    store.load("state", into)
    again = Store(base / "of_two", ranks)
    again.save("state", into, {"step": "8"})
    same = torch.equal(cutting.gathered(cut), whole["cut"]) and torch.equal(into["same"], whole["same"])
    return found == (set(whole), {"step": "7"}) and same


def timeouts(ranks: Ranks) -> list[float]:
    """Seconds that members wait: of the default group, the mesh's."""
    groups = dist.group.WORLD, ranks.mesh().get_group()
    return [group._get_backend(CPU).options._timeout.total_seconds() for group in groups]  # type: ignore[union-attr]


def together(ranks: Ranks) -> dict[str, Any]:
    """Rank 0 alone computes; what it finds wrong is wrong for all."""
    asked = []
    value = ranks.from_first(lambda: asked.append(1) or Path("x"))

    def fail() -> None:
        raise DiagnosticError(OtherVocabulary(None, name="u", child=1, parent=2))

    try:
        ranks.from_first(fail)
        failed = ""
    except DiagnosticError as error:
        failed = error.diagnostics[0].code
    return {"asked": len(asked), "value": str(value), "failed": failed}


TRAININGS = {
    "plain": ("program", PLAIN),
    "offloaded": ("program", replace(PLAIN, offload=True)),
    "chats": ("chats", replace(PLAIN, recompute=True)),
}
"""A program, and the means by which it is trained."""
STOP = 3


def trainings(base: Path, ranks: Ranks) -> dict[str, Any]:
    """The steps of short trainings, the last of which is stopped and resumed; and what each process read and hashed for them."""
    case = base / "case"
    found: dict[str, Any] = {}
    hashed, tokenised = [], []
    run.sha256_of = lambda path, real=run.sha256_of: hashed.append(path.name) or real(path)
    run.token_rows = lambda *a, real=run.token_rows, **k: tokenised.append(1) or real(*a, **k)

    def train_to(name: str, training: str, limit: int | None = None) -> None:
        program, means = TRAININGS[training]
        run.means_for = lambda *a: means
        declared, progress = Program.from_json((case / f"{program}.json").read_text()), Recorder(limit)
        folders = case / "parent", case / "models" / "best", case / name, case, case / "work", case / "tokens"
        with suppress(Interrupted):
            run.run_uptrain(run.UptrainInputs(declared, "final", *folders, progress, ranks))
        found[name] = progress.named("uptrain_step")

    for name in TRAININGS:
        train_to(name, name)
    train.CHECKPOINT_S, train.CHECKPOINT_SHARE = 0.0, 1e9  # after every step
    train_to("resumed", "plain", STOP)
    train.CHECKPOINT_SHARE = 1e-9  # never again
    train_to("resumed", "plain")
    return found | {"hashed": hashed, "tokenised": len(tokenised)}


def main(base: Path) -> None:
    torch.set_num_threads(1)
    ranks = ranks_of()
    join(ranks)
    found: dict[str, Any] = {"families": families(base, ranks)}
    if (base / "case").is_dir():
        found |= {
            "timeouts": timeouts(ranks),
            "together": together(ranks),
            "torn": torn(base, ranks),
            "disagreeing": disagreeing(base, ranks),
            "of_one": of_one(base, ranks),
            "trainings": trainings(base, ranks),
        }
    (base / f"found-{ranks.rank}.json").write_text(json.dumps(found))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
