"""Commands on cost tables and searches. None of them loads torch."""
