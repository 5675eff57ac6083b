"""Tests of `pzl explore`."""
