"""Checks of what a declaration needs beyond itself: pieces, runtimes, tokenizers."""
