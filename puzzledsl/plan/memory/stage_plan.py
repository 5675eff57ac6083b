"""Plan of one stage: the bytes of its parts at the peak, its time, and what was chosen and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction

from puzzledsl.base.frozen import record
from puzzledsl.base.units import BYTES, format_quantity
from puzzledsl.plan.memory.device import Device


@record
class Choice:
    """One choice of a plan: `micro-batch`, `2 of 64 sequences`, and the reason."""

    what: str
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage on the fullest of `devices` devices: bytes by part at the peak, bytes of the host beside it, and seconds.

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
