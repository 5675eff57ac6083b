"""Models for OR-Tools CP-SAT, and how they are solved."""
