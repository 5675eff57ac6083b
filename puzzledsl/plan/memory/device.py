"""Devices that a plan is made for: their memory, their number, and the speeds that a stage reaches on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

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
"""Share of a device's memory for the weights of a parent that is timed; of a larger one, layers use the weights of others."""
TIMED_POOL_SHARE = Fraction(1, 4)
"""Share for the weights of the alternatives that are timed. The rest is for caches and activations."""
KEPT_SHARE = Fraction(1, 4)
"""Share of a device's memory in which such a parent keeps weights for their next use."""
HOST_BYTES_A_GPU = 256 << 30
"""The host's memory beside each GPU of a machine that is not this one: 2 TiB for eight, as in a DGX H100."""
FLOAT32_SHARE = Fraction(1, 16)
"""Rate of float32 products on a GPU in bfloat16's, without TF32: 67 of 989 TFLOP/s on an H100."""


@dataclass(frozen=True, slots=True)
class Device:
    """`count` equal devices, each with `memory_bytes`, in machines with `host_bytes` of memory beside each device.

    `dtype`: what parents run in. Speeds are those that a stage reaches on one device, not peaks. `float64_flop_per_s`: 0 where
    float64 is as fast as float32.
    """

    name: str
    is_gpu: bool
    memory_bytes: int
    host_bytes: int
    dtype: Dtype
    flop_per_s: float
    float32_flop_per_s: float
    bandwidth_bytes_per_s: float
    count: int = 1
    float64_flop_per_s: float = 0.0

    @property
    def usable_bytes(self) -> int:
        """Bytes of one device that a plan may fill."""
        return int(self.memory_bytes * (USABLE if self.is_gpu else CPU_SHARE))

    @property
    def kind(self) -> str:
        """Type of the device, as torch calls it."""
        return "cuda" if self.is_gpu else "cpu"

    @property
    def double_flop_per_s(self) -> float:
        """FLOP/s of float64 products."""
        return self.float64_flop_per_s or self.float32_flop_per_s

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
        float32_flop_per_s=rate * float(FLOAT32_SHARE),
        bandwidth_bytes_per_s=float(profile.bandwidth_bytes_per_s * profile.efficiency_bandwidth),
        count=gpus,
    )
