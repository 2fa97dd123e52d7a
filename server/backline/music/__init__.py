"""Composes, renders and sings the training songs."""
