"""What stems are called: the labels that a corpus keeps, the names that data sets and people give their files.

A label is the instrument, by the names of MUSDB18, MoisesDB and the classes of General MIDI that Slakh2100 has. Three
labels stand for several instruments: `mix` is the whole song, `instrumental` all of it but the voice, and `rest` all
that its other stems leave.
"""

from __future__ import annotations

import re

VOCALS, DRUMS, BASS, OTHER = "vocals", "drums", "bass", "other"
MIX, INSTRUMENTAL, REST = "mix", "instrumental", "rest"
SEVERAL = frozenset([MIX, INSTRUMENTAL, REST])  # labels of more than one instrument
LABEL = "[a-z0-9][a-z0-9 ]{0,39}"

NAMES = {
    VOCALS: "vocals, vocal, voice, voices, vox, singing, acapella, a cappella, choir, lead vocals, lead vocal, "
    "backing vocals, background vocals",
    DRUMS: "drums, drum, drum kit, drumkit, kit",
    "percussion": "percussion, perc",
    BASS: "bass, bass guitar, synth bass, bassline",
    "guitar": "guitar, guitars, gtr, acoustic guitar, electric guitar, lead guitar, rhythm guitar, guitar l, guitar r",
    "piano": "piano, pianos, grand piano, electric piano",
    "keys": "keys, keyboard, keyboards, other keys",
    "organ": "organ",
    "strings": "strings, strings continued, bowed strings, ensemble",
    "brass": "brass, horns, trumpet, trombone",
    "reed": "reed, reeds, sax, saxophone, clarinet",
    "pipe": "pipe, flute, flutes",
    "wind": "wind, winds, woodwind, woodwinds",
    "plucked": "plucked, other plucked, harp, banjo, mandolin, ukulele",
    "chromatic percussion": "chromatic percussion, mallets, vibraphone, marimba, glockenspiel",
    "synth lead": "synth lead, lead synth",
    "synth pad": "synth pad, pad, pads",
    "synth": "synth, synths, synthesizer",
    "effects": "effects, fx, sfx, synth effects, sound effects",
    OTHER: "other, others, comp",
    MIX: "mix, mixture, full mix, master, full song",
    INSTRUMENTAL: "instrumental, instrumentals, accompaniment, no vocals, karaoke, minus one, backing track, backing, "
    "band",
    REST: "rest, remainder, residual",
}
LABELS = {name: label for label, names in NAMES.items() for name in names.split(", ")}
MOST_WORDS = max(name.count(" ") + 1 for name in LABELS)

GENERAL_MIDI = (
    "piano", "chromatic percussion", "organ", "guitar", BASS, "strings", "strings", "brass",
    "reed", "pipe", "synth lead", "synth pad", "effects", OTHER, "percussion", "effects",
)  # fmt: skip  # of each eight programmes


def label_of(name: str) -> str | None:
    """The label of a file or folder that is called `name`, without its ending; None: it names no stem."""
    words = re.findall("[a-z]+", name.lower())
    return LABELS.get(" ".join(word for word in words if word not in ("stem", "stems")))


def title_and_label(name: str) -> tuple[str, str] | None:
    """What `name`, without its ending, says of song and stem: "So What (Vocals)" is ("So What", "vocals").

    None: it does not end in the name of a stem, or is nothing else.
    """
    starts = [match.start() for match in re.finditer("[A-Za-z0-9]+", name)]
    for words in range(min(MOST_WORDS, len(starts) - 1), 0, -1):
        label = label_of(name[starts[-words] :])
        title = name[: starts[-words]].strip(" _-.([")
        if label is not None and title:
            return title, label
    return None


def programme_label(programme: int) -> str:
    """The label of a General MIDI programme, counted from 0."""
    return GENERAL_MIDI[programme // 8]


def track_of(label: str) -> str:
    """Which of the four tracks of MUSDB18 an instrument belongs to, as MoisesDB has it: what is no other is `other`."""
    return label if label in (VOCALS, DRUMS, BASS) else OTHER
