"""Real songs prepared for training and measuring: one corpus for every family of models."""
