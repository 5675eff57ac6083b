"""Plans of stages: the bytes of their parts at the peak, their time, what was chosen and why, and the devices they are for.

Work is cut to sizes by type of device: as much as it needs for its full speed, and no more memory. A CPU's tiles stay in its
caches. A GPU's are large enough to fill it: its products are 100 times as fast, and a launch of each takes as long. A whole model
lies on one device, or is read layer by layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from typing import Literal

from puzzledsl.base.frozen import Record
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.ir.nodes import RooflineHardware

Dtype = Literal["bf16", "fp32"]
NUMBER_BYTES: dict[Dtype, int] = {"bf16": 2, "fp32": 4}
FLOAT32_BYTES, FLOAT64_BYTES = 4, 8
USABLE = Fraction(9, 10)
"""Share of a GPU's memory that a plan fills; the rest is for the CUDA context, workspaces and fragmentation."""
CPU_SHARE = Fraction(6, 10)
"""Share of the host's free memory that a plan fills where the host itself is the device."""
PARENT_SHARE = Fraction(6, 10)
"""Share of a device's memory that a whole parent may take; a larger one is read layer by layer as it runs."""
TIMED_SHARE = Fraction(1, 2)
"""Share of a device's memory for the weights of a parent that is timed; in a larger one, layers reuse the weights of others."""
TIMED_POOL_SHARE = Fraction(1, 4)
"""Share of a device's memory for the weights of timed alternatives. The rest is for caches and activations."""
KEPT_SHARE = Fraction(1, 4)
"""Share of a device's memory in which a parent that is read layer by layer keeps weights for their next use."""
HOST_BYTES_A_GPU = 256 << 30
"""The host's memory beside each GPU of a machine that is not this one: 2 TiB for eight, as in a DGX H100."""


@dataclass(frozen=True, slots=True)
class Device:
    """`count` equal devices, each with `memory_bytes`, in machines with `host_bytes` of memory beside each device.

    `dtype`: what parents run in. Speeds are those that a stage reaches on one device, not peaks.
    """

    name: str
    is_gpu: bool
    memory_bytes: int
    host_bytes: int
    dtype: Dtype
    flop_per_s: float
    bandwidth_bytes_per_s: float
    count: int = 1

    @property
    def usable_bytes(self) -> int:
        """Bytes of one device that a plan may fill."""
        return int(self.memory_bytes * (USABLE if self.is_gpu else CPU_SHARE))

    @property
    def kind(self) -> str:
        """Type of the device, as torch calls it."""
        return "cuda" if self.is_gpu else "cpu"

    @property
    def number_bytes(self) -> int:
        """Bytes of one weight or activation of a parent."""
        return NUMBER_BYTES[self.dtype]

    def shared_by(self, processes: int) -> Device:
        """Return the part of a CPU's memory that one of several processes may use; each GPU belongs to one process."""
        return self if self.is_gpu else replace(self, memory_bytes=self.memory_bytes // processes)


def device_of(profile: RooflineHardware, gpus: int, name: str = "") -> Device:
    """Return the device of a hardware profile, at the speeds that the profile says are reached."""
    rate = float(profile.flop_per_s["bf16"] * profile.efficiency_compute)
    return Device(
        name=name or profile.profile,
        is_gpu=True,
        memory_bytes=profile.memory_bytes,
        host_bytes=HOST_BYTES_A_GPU,
        dtype="bf16",
        flop_per_s=rate,
        bandwidth_bytes_per_s=float(profile.bandwidth_bytes_per_s * profile.efficiency_bandwidth),
        count=gpus,
    )


class Choice(Record):
    """One choice of a plan: `micro-batch`, `2 of 64 sequences`, and the reason."""

    what: str
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage on the fullest of `devices` devices: bytes of its `parts` at the peak, bytes of the host, and seconds.

    `scratch_bytes`: temporary files, where the plan decides about them.
    """

    stage: str
    name: str
    parts: Mapping[str, int]
    seconds: float
    devices: int = 1
    host_bytes: int = 0
    scratch_bytes: int | None = None
    choices: tuple[Choice, ...] = field(default=())

    @property
    def peak_bytes(self) -> int:
        """Sum of the parts."""
        return sum(self.parts.values())

    def fits(self, device: Device) -> bool:
        """Return True if the stage stays within the device and the host."""
        return self.peak_bytes <= device.usable_bytes and self.host_bytes <= device.host_bytes

    def as_json(self) -> dict[str, object]:
        """Return the plan as a JSON object."""
        return {
            "device_bytes": self.peak_bytes,
            "parts": dict(self.parts),
            "host_bytes": self.host_bytes,
            "devices": self.devices,
            "planned_seconds": round(self.seconds, 1),
            "choices": [*map(asdict, self.choices)],
        }


def size_text(count: float) -> str:
    """Format bytes for a table or a sentence: `11.9GiB`."""
    return format_quantity(Fraction(count), BYTES, digits=3)


@dataclass(frozen=True, slots=True)
class Tiles:
    """Sizes for one type of device; by default a CPU's. Its tile of logits is 4 MiB of float32."""

    group_tokens: int = 512
    """Tokens that go through the layers together in scoring, and through a sub-block in scoring after healing."""
    forward_tokens: int = 2048
    """Tokens of one forward pass in healing and evaluation."""
    logit_positions: int = 512
    """Positions of a tile of logits that is summed up at once."""
    logit_tokens: int = 2048
    """Tokens of the vocabulary of such a tile."""
    divergence_positions: int = 512
    """Positions whose logits over the whole vocabulary are in memory at once."""
    training_tokens: int = 2048
    """Positions of one forward and backward pass in uptraining, where the program does not say."""
    loss_positions: int = 256
    """Positions of a chunk of uptraining's loss: three float32 tensors of logits beside its gradients."""
    generated_tokens: int = 8192
    """Tokens of a batch that is generated together: prompts with padding, and what comes behind."""


CPU = Tiles()
CUDA = Tiles(
    group_tokens=16384,
    forward_tokens=16384,
    logit_positions=4096,
    logit_tokens=16384,  # 256 MiB of float32 logits
    divergence_positions=1024,  # 0.5 GiB of float32 logits each of a vocabulary of 128k, parent and child
    training_tokens=8192,
    loss_positions=2048,  # 1 GiB each of a vocabulary of 128k
    generated_tokens=1 << 17,
)


def tiles(device_type: str) -> Tiles:
    """Return the sizes for a type of device, such as "cuda"; those of a CPU for one that is not known."""
    return CUDA if device_type == "cuda" else CPU
