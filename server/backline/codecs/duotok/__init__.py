"""DuoTok: voice and accompaniment as one token each, 25 times a second."""
