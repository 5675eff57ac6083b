"""Label setting for the resource-constrained shortest path (Irnich & Desaulniers 2005)."""
