"""Fewer, narrower and merged experts of a mixture, fitted by least squares."""
