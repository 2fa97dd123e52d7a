"""Separation by a language model that tells the codes of every track."""
