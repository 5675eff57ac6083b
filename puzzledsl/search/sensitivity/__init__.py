"""Sensitivity of an answer: regrets of other choices, and the cost of each requirement."""
