"""Run times of sub-blocks, measured on this machine, as a cost table."""
