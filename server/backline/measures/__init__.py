"""What is measured of sounds, notes and codes: figures with known answers, for training and evaluation alike."""
