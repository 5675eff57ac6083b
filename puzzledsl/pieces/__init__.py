"""The block library: pieces are initialised from the parent, trained and stored."""
