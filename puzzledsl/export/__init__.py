"""Child -> a checkpoint directory that a runtime loads."""
