"""Commands of single stages: each resumes where it was interrupted, and skips what is done."""
