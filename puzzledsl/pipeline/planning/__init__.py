"""State and estimates of tasks, without running any."""
