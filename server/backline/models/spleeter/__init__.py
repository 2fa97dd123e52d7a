"""Spleeter (Hennequin et al. 2020): a U-Net for each track estimates its magnitudes, masks share the mixture out."""
