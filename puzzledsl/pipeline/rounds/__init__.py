"""Searches that are solved again: in narrowed spaces, and with scores around their child."""
