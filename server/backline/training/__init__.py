"""Trainers that make the default pack."""
