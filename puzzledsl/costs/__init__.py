"""IR to cost table: a roofline over a hardware profile, or a table measured elsewhere. No torch."""
