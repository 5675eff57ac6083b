"""Tests of the families\x27 readers of config.json."""
