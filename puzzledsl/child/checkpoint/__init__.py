"""Checkpoints: the directory of a child that Transformers loads."""
