"""Recovery: reading goes on behind a syntax error, which is told with the form that is expected."""
