"""Inputs that nobody wrote, and what must hold of the front end's answer to any of them."""
