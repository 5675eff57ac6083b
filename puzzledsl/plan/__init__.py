"""Plans as data: BLD jobs from the IR, a model definition from a solution. No torch."""
