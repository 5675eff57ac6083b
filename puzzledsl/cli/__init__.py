"""The command line: the only place that knows every other. Imports stay inside the commands that need them."""
