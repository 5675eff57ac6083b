"""Infeasible searches: conflicting requirements, reachable values and the smallest relaxation."""
