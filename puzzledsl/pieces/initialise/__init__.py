"""Parent weights and calibration statistics -> initialised alternatives (state dictionaries)."""
