"""Least-squares fits of a sub-block's maps to the parent's activations."""
