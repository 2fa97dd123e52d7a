"""DuoTok: a song as two tokens, 25 times a second; the language model that knows such songs, and what plays them."""
