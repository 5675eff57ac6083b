"""The command line: the only package that may import every other. Imports are inside the commands that need them."""
