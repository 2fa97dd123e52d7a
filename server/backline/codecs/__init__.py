"""Audio and semantic tokenizers, offline and streaming."""
