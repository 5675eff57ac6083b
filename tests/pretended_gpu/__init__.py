"""A pretended CUDA device on a machine without one: data stay on the CPU, their storages are tagged.

Inside `pretended_gpu()` this process has one GPU. What only a GPU would refuse fails here too: operators on tensors of two
devices, `.numpy()` of a CUDA tensor, memory over a limit, waits while a graph is captured, grouped attention in float32 (the
slowest kernel). Waits for the device are counted by call site. `tests/conftest.py` has the fixture `pretended`.

It does not know which kernel CUDA would choose, workspaces, fragmentation, NCCL, or time.
"""

from tests.pretended_gpu.context import pretended_gpu
from tests.pretended_gpu.gpu import Gpu

__all__ = ["Gpu", "pretended_gpu"]
