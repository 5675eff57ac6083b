"""Costs and scores given: which alternative each layer takes. Exact integers from end to end, every answer verified.

tables -> Problem -> bound -> core -> CP-SAT -> verify -> SearchResult
"""
