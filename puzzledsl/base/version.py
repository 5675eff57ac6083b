"""The version of the package, for modules that must not import `puzzledsl/__init__.py`."""

__version__ = "0.1.0"
