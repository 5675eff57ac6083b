"""CPU kernels and memory settings that are faster than PyTorch's defaults."""
