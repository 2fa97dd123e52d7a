"""MGE-LDM: what is typed is heard, out of what is playing or beside it."""
