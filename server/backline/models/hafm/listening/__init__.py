"""What the band hears in the tokens of a voice: its key, its beat, and the chords that go with it."""
