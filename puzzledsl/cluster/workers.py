"""Workers of a Ray cluster as actors, in teams whose neighbours share a machine where they can.

A worker takes a GPU, or a CPU if the cluster has no GPU. CUDA errors and exhausted memory count as the loss of the worker,
because its process cannot be trusted afterwards. Tensors travel as NumPy arrays: Ray's store maps these into the reader's
memory, and pickles tensors in band, at a tenth of the speed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.cluster.tasks import Cluster, first_line

_VIEWED = {1: torch.uint8, 2: torch.int16}
"""Integers of the size of a dtype that NumPy lacks (bfloat16, float8)."""


def array_of(tensor: Tensor) -> tuple[NDArray[Any], str]:
    """Return a tensor's content on the CPU, and the name of its dtype."""
    held = tensor.detach().cpu().contiguous()
    try:
        array = held.numpy()
    except TypeError:
        array = held.view(_VIEWED[held.itemsize]).numpy()
    return array, str(held.dtype).removeprefix("torch.")


def tensor_of(carried: tuple[NDArray[Any], str]) -> Tensor:
    """Invert `array_of`. Tensors are copies: the store's memory is read-only, and a write to it would end the process."""
    array, dtype = carried
    return torch.from_numpy(np.array(array)).view(getattr(torch, dtype))


def carry_tensors() -> None:
    """Make Ray carry the tensors of this process as NumPy arrays from now on, in whatever they are held."""
    from ray.util import register_serializer

    register_serializer(Tensor, serializer=array_of, deserializer=tensor_of)


SETTLED_S, POLL_S = 10.0, 0.25
"""Longest wait for the resources of workers that have ended, and the interval between two looks."""
PLACED_S = 60.0
"""Seconds that a team has to be placed."""


class Member:
    """A worker's object, built at its first call so that mistakes found meanwhile reach the caller."""

    def __init__(self, make: Callable[[int], Any], member: int, threads: int) -> None:
        carry_tensors()
        torch.set_num_threads(threads)
        self._make, self._member, self._part = make, member, None

    def ready(self) -> None:
        """Return when the process is up."""

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the object."""
        if self._part is None:
            self._part = self._make(self._member)
        result = getattr(self._part, method)(*arguments)
        return [*result] if isinstance(result, Iterator) else result


@dataclass(eq=False)
class Team:
    """Actors of `Member`, in the order of the members."""

    actors: Sequence[Any]
    group: Any = None
    node: str = ""
    """The machine that the team has for itself."""
    since: float = field(default_factory=time.monotonic)

    def call(self, member: int, method: str, *arguments: Any) -> Any:
        """Queue a call, after all earlier ones of this member. Arguments may be handles of earlier calls."""
        return self.actors[member].call.remote(method, *arguments)

    def ready(self) -> list[Any]:
        """Return handles of calls that are done when all processes are up."""
        return [actor.ready.remote() for actor in self.actors]


class Workers:
    """Starts and ends workers of a connected cluster, and tells their loss from mistakes."""

    def __init__(self, cluster: Cluster) -> None:
        """Connect the cluster. Raises DiagnosticError."""
        self.cluster, _ = cluster, cluster.ray
        carry_tensors()

    @property
    def unit(self) -> str:
        """The resource that a worker takes: "GPU", or "CPU" in a cluster without GPUs."""
        return "GPU" if self.cluster.ray.cluster_resources().get("GPU") else "CPU"

    def free(self) -> int:
        """Return the number of workers that nobody uses now."""
        return int(self.cluster.ray.available_resources().get(self.unit, 0))

    def settled(self, most: int | None = None) -> int:
        """Return `free` when it is at least `most` or no longer changes: Ray returns what ended workers had after a while."""
        end, seen, same = time.monotonic() + SETTLED_S, self.free(), 0
        while time.monotonic() < end and (most is None or seen < most) and (same < 4 or not seen):
            time.sleep(POLL_S)
            now = self.free()
            seen, same = now, same + 1 if now == seen else 0
        return seen

    def start(self, make: Callable[[int], Any], size: int, threads: int | None = None) -> Team | None:
        """Start a team; None if there is no room for it. Several workers are packed onto as few machines as possible."""
        unit = self.unit
        resources = {"num_cpus": int(unit == "CPU"), "num_gpus": int(unit == "GPU")}
        if size == 1:
            return Team([self._actor(make, 0, threads, **resources)])
        from ray.util.placement_group import placement_group, remove_placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        group = placement_group([{unit: 1}] * size, strategy="PACK")
        if not group.wait(timeout_seconds=PLACED_S):
            remove_placement_group(group)
            return None
        places = [
            PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=m) for m in range(size)
        ]
        return Team(
            [
                self._actor(make, member, threads, scheduling_strategy=place, **resources)
                for member, place in enumerate(places)
            ],
            group,
        )

    def start_alone(
        self, make: Callable[[int], Any], threads: int | None, used: Collection[str]
    ) -> Iterator[Team]:
        """Start workers that share no processor: one for each free GPU, or one for each machine that is not in `used`."""
        if self.unit == "GPU":
            for _ in range(self.free()):
                yield Team([self._actor(make, 0, threads, num_cpus=0, num_gpus=1)])
            return
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        for node in self.cluster.ray.nodes():
            cpus = node["Resources"].get("CPU", 0)
            if node["Alive"] and cpus and (name := node["NodeID"]) not in used:
                here = NodeAffinitySchedulingStrategy(name, soft=False)
                given = {"num_cpus": cpus, "scheduling_strategy": here}
                yield Team([self._actor(make, 0, threads, **given)], node=name)

    def _actor(self, make: Callable[[int], Any], member: int, threads: int | None, **options: Any) -> Any:
        actor = self.cluster.ray.remote(Member).options(**options, max_restarts=0, max_task_retries=0)
        return actor.remote(make, member, threads or torch.get_num_threads())

    def end(self, team: Team) -> None:
        """End a team's processes."""
        for actor in team.actors:
            self.cluster.ray.kill(actor)
        if team.group is not None:
            from ray.util.placement_group import remove_placement_group

            remove_placement_group(team.group)

    def loss(self, error: BaseException) -> str | None:
        """Return a line that describes the loss of a worker; None for any other error."""
        errors, cause = self.cluster.ray.exceptions, cause_of(self.cluster.ray, error)
        losses = (
            errors.RayActorError,
            errors.ObjectLostError,
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.LocalRayletDiedError,
            errors.OutOfMemoryError,
        )
        return first_line(cause) if isinstance(cause, losses) or is_of_hardware(cause) else None

    def mistake(self, error: BaseException) -> BaseException:
        """Return the error to raise for a call that failed in a worker that is not lost."""
        cause = cause_of(self.cluster.ray, error)
        return cause if isinstance(cause, DiagnosticError) else error


def cause_of(ray: Any, error: BaseException) -> BaseException:
    """Return the error that a worker raised, also if a later call failed because of it."""
    while isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause
    return error


def is_of_hardware(error: BaseException) -> bool:
    """True for exhausted memory and CUDA errors, after which a process is of no use."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    accelerator = getattr(torch, "AcceleratorError", None)
    if accelerator is not None and isinstance(error, accelerator):
        return True
    return isinstance(error, RuntimeError) and str(error).startswith(("CUDA error", "CUDA out of memory"))
