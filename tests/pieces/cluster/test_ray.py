"""Pieces made by Ray's workers are those made here, bit for bit, and a machine that goes away costs none of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from puzzledsl.base.progress import Progress, Silent
from puzzledsl.cluster.ray_tasks import RayExecutor
from puzzledsl.cluster.tasks import Cluster
from puzzledsl.ir import nodes
from puzzledsl.pieces.train import stream as streaming
from tests.cluster.ray_here import MARKS
from tests.interrupting import Interrupting
from tests.pieces.train.bld_programs import contents, make_pieces, make_program
from tests.refused import refused

pytestmark = MARKS
SHORT = {"tokens": 640, "calibration_tokens": 128}  # ten steps


def make(
    program: nodes.Program, base: Path, build: str, on: str, progress: Progress | None = None
) -> dict[str, bytes]:
    return contents(make_pieces(program, base, build, progress, RayExecutor(Cluster(on))))


@contextmanager
def two_nodes() -> Iterator[tuple[Any, Any]]:
    """A cluster of two raylets, which are two nodes to Ray, and the second of them."""
    ray, cluster_utils = pytest.importorskip("ray"), pytest.importorskip("ray.cluster_utils")
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        yield cluster, second
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
def test_two_nodes_one_of_which_goes_away_and_a_driver_that_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is ended in the middle: its stage is made again on the other."""
    monkeypatch.setattr(streaming, "SAVED_STEPS", 2)
    program = make_program(tmp_path, **SHORT)
    expected = contents(make_pieces(program, tmp_path, "here"))

    class Leaving(Silent):
        steps = 0

        def advance(self, amount: int = 1, **figures: float | str) -> None:
            self.steps += amount
            if self.steps == 3:
                cluster.remove_node(second, allow_graceful=False)

    with two_nodes() as (cluster, second):
        with pytest.raises(KeyboardInterrupt):
            make(program, tmp_path, "two", cluster.address, Interrupting(5))
        assert make(program, tmp_path, "two", cluster.address) == expected
        assert make(program, tmp_path, "leaving", cluster.address, Leaving()) == expected


@pytest.mark.parametrize("on", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_cluster_that_is_not_there_is_told_at_once(on: str, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    diagnostic = refused(make, make_program(tmp_path, **SHORT), tmp_path, "ray", on)
    assert diagnostic.code == "E1422" and "refused" in diagnostic.message


def test_without_ray_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    diagnostic = refused(make, make_program(tmp_path, **SHORT), tmp_path, "ray", "local")
    assert diagnostic.code == "E1421" and "pip install 'puzzledsl[ray]'" in diagnostic.help


def test_a_cluster_that_does_not_start_is_a_diagnostic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray raises a bare Exception where a node does not come up in time."""

    def init(**given: object) -> None:
        raise Exception("The current node timed out during startup.")

    pretended = SimpleNamespace(is_initialized=lambda: False, init=init)
    monkeypatch.setitem(sys.modules, "ray", pretended)
    diagnostic = refused(lambda: Cluster("local").ray)
    assert diagnostic.code == "E1422" and "timed out" in diagnostic.message
