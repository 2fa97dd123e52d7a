"""What tokenizers of voice and accompaniment are worth to a language model: DuoTok's protocol (sections 4 to 6)."""
