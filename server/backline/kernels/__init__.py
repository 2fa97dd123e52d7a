"""Numba kernels of the hot path; no torch here."""
