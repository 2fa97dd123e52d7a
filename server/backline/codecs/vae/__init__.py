"""Variational autoencoders: sound to a few frames of continuous latents a second, and back, whole signals."""
