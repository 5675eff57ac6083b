"""What a runtime cannot run: E047x."""

from __future__ import annotations

from puzzledsl.diagnostics import Diagnostic


class NoSuchFamily(Diagnostic):
    """Children of this family's parents cannot run in the runtime."""

    code = "E0471"
    template = "{runtime} cannot run children of {family} parents: {reason}"
    help_template = 'write `runtime: transformers`, or `mlx("…")`'


class CannotRepresent(Diagnostic):
    """An alternative that the runtime has not, and that nothing in it could stand for."""

    code = "E0472"
    template = "{runtime} has no {what}: {layers} ({reason})"


class IsLowered(Diagnostic):
    """An alternative that the runtime has not, and that is rewritten into something it has."""

    code = "E0473"
    severity = "warning"
    template = "{runtime} has no {what}: {layers}"
    help_template = "it becomes {into}: {cost}. Write `lower: true` to allow it, or drop it with {drop}"


class LoweringRefused(Diagnostic):
    """The same, where the export says `lower: false`."""

    code = "E0474"
    template = "{runtime} has no {what}: {layers}, and `lower: false` forbids rewriting it"
    help_template = "allow it with `lower: true` ({into}: {cost}), or drop it with {drop}"
