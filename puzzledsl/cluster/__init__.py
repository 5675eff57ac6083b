"""Work on other processes and machines: named tasks that run here or on the workers of a Ray cluster."""
