"""Commands on the program text: write, check, format, compare, edit."""
