"""A measured hardware is checked against the machine."""

from __future__ import annotations

import pytest
import torch

from puzzledsl.base.diagnostics import DiagnosticError, SeveralGpus
from puzzledsl.ir import nodes
from puzzledsl.measure.errors import NoSuchDevice
from puzzledsl.measure.place import device_of, memory_bytes
from puzzledsl.pipeline.inputs import measured_scenarios
from tests.pieces.train.bld_programs import WHERE


def hardware(**spec) -> nodes.Hardware:
    return nodes.Hardware(name="here", spec=nodes.MeasuredHardware(**spec), where=WHERE)


def test_a_cpu_is_always_there():
    assert device_of(hardware(dtype="bf16")) == (torch.device("cpu"), torch.bfloat16)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [({"device": "npu"}, NoSuchDevice), ({"gpus": 2}, SeveralGpus)],
)
def test_anything_else_is_a_diagnostic_at_the_declaration(spec, problem):
    with pytest.raises(DiagnosticError) as error:
        device_of(hardware(**spec))
    (found,) = error.value.diagnostics
    assert (
        isinstance(found, problem) and found.span is not None and found.span.line == WHERE.line and found.help
    )


def test_only_measured_scenarios_are_measured():
    table = nodes.Hardware(name="t", spec=nodes.TableHardware(path="t.csv"), where=WHERE)
    scenarios = {
        name: nodes.Scenario(name=name, hardware=on, batches=(1,), prompt=1, output=1, where=WHERE)
        for name, on in (("a", "here"), ("b", "t"), ("c", "here"))
    }
    program = nodes.Program(source="p.pzl", hardware={"here": hardware(), "t": table}, scenarios=scenarios)
    assert measured_scenarios(program) == ["a", "c"]


def test_memory_is_what_is_declared_or_what_is_there():
    cpu = torch.device("cpu")
    assert memory_bytes(hardware(memory_bytes=123), cpu) == 123
    assert memory_bytes(hardware(), cpu) > 1 << 28
