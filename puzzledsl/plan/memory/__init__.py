"""Peak memory of every stage, from shapes and a device (torch-free)."""
