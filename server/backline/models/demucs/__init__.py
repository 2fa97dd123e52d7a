"""Hybrid (Transformer) Demucs (Défossez 2021; Rouard et al. 2023), through its authors' package where that is there."""
