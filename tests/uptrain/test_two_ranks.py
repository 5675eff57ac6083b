"""Laws of two processes, each with a part of both models: what they read, hold, save and agree on."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.ir.nodes import Program
from puzzledsl.models.families.load import load_parent
from puzzledsl.uptrain.run import UptrainInputs, run_uptrain
from puzzledsl.uptrain.state import Store
from tests.child.checkpoint.test_hybrid_children import LAYERS, MIXED
from tests.children import Choice, define, random_pieces
from tests.interrupting import Recorder
from tests.tiny import DENSE, HYBRIDS, MIXTURES, save_tiny
from tests.uptrain.cases import make_case, with_chats
from tests.uptrain.two_ranks import STOP, TRAININGS

pytestmark = pytest.mark.timeout(600)
FAMILIES = (*DENSE, *MIXTURES, *HYBRIDS)
DISTINCT = ("llama", "gemma3_text", "phi3", *MIXTURES, *HYBRIDS)
"""Families whose weights are cut in another way than those of any before: windows, joined projections, experts, states."""
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
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
STEPS = 4
CUT = torch.arange(15.0).view(5, 3)


def save_family(base: Path, family: str) -> None:
    """A parent and a child with replaced sub-blocks; every second parent has a tied embedding."""
    layers = MIXED.get(family) or (MIXTURE_LAYERS if family in MIXTURES else DENSE_LAYERS)
    tied = FAMILIES.index(family) % 2 == 0
    parent = save_tiny(base / "parent", family, layers=LAYERS.get(family, len(layers)), tied=tied)
    realise(define(layers), parent, random_pieces(load_parent(parent), layers), base / "child")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of both processes' figures, `found-RANK.json`."""
    base = tmp_path_factory.mktemp("two")
    for family in DISTINCT:
        save_family(base / "families" / family, family)
    case = make_case(base / "case", tokens=STEPS * 128, batch=8, micro_batch=2)
    for name, of in (("program", case), ("chats", with_chats(case))):
        (case.base / f"{name}.json").write_text(of.program.model_dump_json())
    Store(base / "of_one").save("state", {"cut": CUT, "same": torch.arange(4.0)}, {"step": "7"})
    launch(base, *TORCHRUN)
    return base


def launch(base: Path, *torchrun: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [*torchrun, "-m", "tests.uptrain.two_ranks", str(base)]
    done = subprocess.run(command, env=environment, cwd=base, capture_output=True, text=True, timeout=560)
    assert done.returncode == 0, done.stderr[-6000:]


def read_both(base: Path) -> list[dict[str, Any]]:
    return [json.loads((base / f"found-{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def found(base: Path) -> list[dict[str, Any]]:
    return read_both(base)


def assert_halved(family: str, entry: dict[str, Any]) -> None:
    for name in ("parent", "child"):
        assert entry[name]["equal"], f"{name}'s weights are those of its files, to the bit"
        assert entry[name]["held"] <= entry[name]["rows"]
        assert entry[name]["off"] < 1e-4
    if family in DENSE:
        assert entry["reads"]["sum"] < 0.55 and entry["reads"]["largest"] <= 0.5, "and no more"


@pytest.mark.parametrize("family", DISTINCT)
def test_each_reads_its_half_of_parent_and_child(found, family) -> None:
    for one in found:
        assert_halved(family, one["families"][family])


@pytest.mark.slow
def test_so_it_is_in_every_other_family(tmp_path: Path) -> None:
    others = [family for family in FAMILIES if family not in DISTINCT]
    for family in others:
        save_family(tmp_path / "families" / family, family)
    launch(tmp_path, *TORCHRUN)
    for one in read_both(tmp_path):
        assert sorted(one["families"]) == sorted(others)
        for family, entry in one["families"].items():
            assert_halved(family, entry)


def test_a_torn_checkpoint_is_never_read(found) -> None:
    for rank in range(2):
        torn = found[rank]["torn"]
        assert {"state-0-0.safetensors", "state-0-1.safetensors", "state.json"} == set(torn["files"])
        assert torn["intact"] and torn["restored"]
        assert len(torn["read"]) == 7 * len(torn["files"]) and not any(torn["read"] + torn["loaded"])


def test_rank_0_decides_what_is_read(found) -> None:
    assert found[0]["disagreeing"] and found[1]["disagreeing"]


def test_a_run_of_one_process_goes_on_with_two_and_back(base, found) -> None:
    assert found[0]["of_one"] and found[1]["of_one"]
    store, into = Store(base / "of_two"), {"cut": torch.zeros(5, 3), "same": torch.zeros(4)}
    assert store.contents("state") == (set(into), {"step": "8"})
    store.load("state", into)
    assert torch.equal(into["cut"], CUT) and torch.equal(into["same"], torch.arange(4.0))
    store.save("state", into, {"step": "9"})
    assert sorted(path.name for path in (base / "of_two").iterdir()) == [
        "state-1-0.safetensors",
        "state.json",
    ]


def test_only_waiting_for_rank_0_is_patient(found) -> None:
    day, half_an_hour = 24 * 3600, 1800
    assert found[0]["timeouts"] == [7 * day, half_an_hour]


def test_rank_0_computes_for_all_and_fails_for_all(found) -> None:
    assert [one["together"]["asked"] for one in found] == [1, 0]
    assert [(one["together"]["value"], one["together"]["failed"]) for one in found] == [("x", "E1704")] * 2


@pytest.fixture(scope="module")
def alone(base: Path) -> dict[str, list[dict[str, Any]]]:
    """Steps of one process on each program, which leaves BASE/case/alone-PROGRAM."""
    case, steps = base / "case", {}
    for name in ("program", "chats"):
        program, progress = Program.from_json((case / f"{name}.json").read_text()), Recorder()
        out, work = case / f"alone-{name}", case / f"work-{name}"
        folders = case / "parent", case / "models" / "best", out, case, work, case / "tokens"
        run_uptrain(UptrainInputs(program, "final", *folders, progress))
        steps[name] = progress.named("uptrain_step")
    return steps


@pytest.mark.parametrize("training", TRAININGS)
def test_losses_and_the_export_are_those_of_one_process(base, found, alone, training) -> None:
    program, _ = TRAININGS[training]
    steps = found[0]["trainings"][training]
    assert len(steps) == len(alone[program]) == STEPS
    for one, two in zip(steps, alone[program], strict=True):
        assert one == pytest.approx(two, abs=1e-4)
    folders = base / "case" / training, base / "case" / f"alone-{program}"
    ours, theirs = (load_file(folder / "model.safetensors") for folder in folders)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=2e-4)
    assert {p.name for p in folders[0].iterdir()} == {p.name for p in folders[1].iterdir()}


def test_stopped_and_resumed_is_unbroken_to_the_bit(base, found) -> None:
    trainings = found[0]["trainings"]
    assert trainings["resumed"] == trainings["plain"][STOP - 1 :]
    whole, resumed = (base / "case" / n / "model.safetensors" for n in ("plain", "resumed"))
    assert resumed.read_bytes() == whole.read_bytes() and not (base / "case" / "work").exists()


def test_only_rank_0_hashes_and_tokenises(found) -> None:
    first, second = (one["trainings"] for one in found)
    assert first["hashed"] and first["tokenised"] and not second["hashed"] and not second["tokenised"]
