"""Models of the families of `puzzledsl.families`: functions to load them, to address and build modules, and to read weights."""
