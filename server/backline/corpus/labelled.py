"""A song's stems with what they are called (models/mge/words.py): what text-queried models learn from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backline.corpus.multitrack import Composed, Multitrack, Sound, StemsMissing, mono
from backline.corpus.stem_names import MIX, SEVERAL
from backline.models.mge.words import DRUMS, VOICE, labels_of

# Labels of a corpus (corpus/stem_names.py) that words.py has under another name. What it has under none, none asks for.
CALLED = {
    "percussion": DRUMS,
    "chromatic percussion": "mallets",
    "reed": "woodwinds",
    "wind": "woodwinds",
    "pipe": "flute",
}

Labels = tuple[str, ...]  # of a stem, the narrowest first; empty where it has no name
Labelled = tuple[tuple[Labels, ...], NDArray[np.float32]]  # labels of each stem, and the stems [stem, sample]


def stems_of(song: Multitrack, sample_rate: int) -> Labelled:
    """Labels and sounds [stem, sample], mono, of all that is told apart by name; what has one name is one stem.

    Raises:
        StemsMissing: there are fewer than two.
    """
    sounds: dict[Labels, Sound] = {}
    for stem, label in song.labels.items():
        if label == MIX:
            continue
        called, sound = called_in(song, stem, label), mono(song.read(stem, sample_rate))
        sounds[called] = sounds[called] + sound if called in sounds else sound
    if len(sounds) < 2:
        raise StemsMissing(f"{song.title} has fewer than two stems: take another song")
    return tuple(sounds), np.stack(list(sounds.values()))


def has_labels(song: Multitrack) -> bool:
    """Whether it has at least two stems, one of which can be asked for by name."""
    called = {called_in(song, stem, label) for stem, label in song.labels.items() if label != MIX}
    return len(called) > 1


def called_in(song: Multitrack, stem: str, label: str) -> Labels:
    """What words.py calls a stem; nothing where it has no name for it, or where it is several instruments."""
    if isinstance(song, Composed):
        if stem == "vocals":
            return labels_of(VOICE)
        return labels_of(stem, None if stem == DRUMS else getattr(song.song.piece.band, stem))
    try:
        return () if label in SEVERAL else labels_of(CALLED.get(label, label))
    except ValueError:
        return ()
