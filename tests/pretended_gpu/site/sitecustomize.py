"""Found first on PYTHONPATH (`tests.pretended_gpu.environment`): gives a child process its pretended GPU."""

from __future__ import annotations

from tests.pretended_gpu.children import switch_on

switch_on()
