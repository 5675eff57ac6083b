"""Laws of fixes: what a fix or a spelled-out help does to a program with a mistake."""
