"""Replace-1-block scoring (Puzzle, section 4.2): measure a ScoreTable with the pieces of a block library."""
