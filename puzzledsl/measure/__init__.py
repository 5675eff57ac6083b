"""Real run times of real sub-blocks on this machine, as a cost table."""
