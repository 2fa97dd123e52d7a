"""HCodec: a windowed codec of two paths, acoustic and semantic, at 12.5 frames a second."""
