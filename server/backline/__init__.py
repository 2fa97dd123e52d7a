"""Backline: neural music models that play along, live."""

__version__ = "0.1.0"
