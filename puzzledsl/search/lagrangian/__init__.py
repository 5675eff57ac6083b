"""Lagrangian bounds: constraints are priced into the objective."""
