"""Replace-1-block scoring: block library to ScoreTable."""
