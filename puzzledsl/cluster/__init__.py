"""Distribution of work: named tasks that run in this process or on the workers of a Ray cluster."""
