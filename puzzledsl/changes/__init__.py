"""Two programs compared: what is declared otherwise, which pieces are to be made, which stages run again."""
