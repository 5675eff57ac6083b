"""Blockwise local distillation (Puzzle, section 3): train the pieces of BldJobs into the block library."""
