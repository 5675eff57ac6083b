"""Commands that build a child, show the state of a build directory, and verify what was built."""
