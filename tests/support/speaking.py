"""Recorded syllables that no package is needed for: every language's folder, with a few words of the formant singer."""

from pathlib import Path

import numpy as np
import soundfile

from backline.music.piece import Note
from backline.music.singer import sing
from backline.music.speakers import LANGUAGES, PARTS
from backline.music.world import MEZZO


def write_recordings(folder: Path, files: int = 0) -> None:
    """Folders as klettres-data has them; `files` recordings in each, of half a second."""
    for languages in LANGUAGES.values():
        for language in languages:
            for part in PARTS:
                own = folder / language / part
                own.mkdir(parents=True)
                for number in range(files):
                    word = [Note(0.4, 0.6, 57 + number, 90, ("sa", "mi", "do")[number % 3])]
                    sound = sing(word, 120, 0.6, 44_100, number, MEZZO)
                    soundfile.write(own / f"{number}.ogg", np.clip(sound, -1, 1), 44_100)
