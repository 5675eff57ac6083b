"""Faster or repeatable forms of PyTorch's operations, and settings of malloc."""
