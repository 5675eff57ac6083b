"""Blockwise local distillation: BldJobs to pieces in the block library."""
