"""Lints: legal but probably unintended. They run only on a program without errors."""
