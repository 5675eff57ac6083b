"""Commands of `pzl`."""
