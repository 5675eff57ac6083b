"""Global knowledge distillation: a child becomes more like its parent (Puzzle, section 3)."""
