"""A run as a process: locks, signals, progress, disk, several ranks."""
