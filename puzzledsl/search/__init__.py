"""Choose an alternative for every layer, given costs and scores. Exact integers throughout; every solution is verified.

tables -> Problem -> bound -> core -> CP-SAT -> verify -> SearchResult
"""
