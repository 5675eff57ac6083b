"""Where pieces are made besides this process: on the workers of a Ray cluster."""
