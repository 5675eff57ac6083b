"""Text to token blocks: read, tokenise once, pack, shuffle."""
