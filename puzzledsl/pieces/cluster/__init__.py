"""Training of pieces outside this process: on the workers of a Ray cluster."""
