"""Storage types on tensors: grids, rounding with error compensation, and codes for files."""
