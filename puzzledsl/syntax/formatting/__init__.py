"""The formatter: one way to write a program, which keeps every comment."""
