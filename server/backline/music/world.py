"""How varied composed pieces are: the band that plays, the voice that sings, keys, tempi and metres."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

PARTS = ("drums", "bass", "comp", "pad")


@dataclass(frozen=True)
class Band:
    """General MIDI programmes, counted from 0; `kit` is a programme of the percussion bank."""

    kit: int = 0
    bass: int = 33  # fingered electric bass
    comp: int = 0  # grand piano
    pad: int | None = 48  # string ensemble; None: nobody holds the chords


@dataclass(frozen=True)
class Voice:
    """Who sings."""

    low: int = 57  # MIDI pitches
    high: int = 74
    size: float = 1.0  # formant frequencies, against those of an adult woman
    vibrato_rate: float = 5.6  # Hz
    vibrato_depth: float = 0.28  # semitones to either side
    breath: float = 0.5  # 0 pressed, 1 airy


@dataclass(frozen=True)
class Cast:
    """Who sings in a world of people: shares of the songs, and of what those do who are recorded people."""

    formant: float = 0.25
    spoken: float = 0.12
    sinsy: float = 0.0  # Sinsy's singer
    prompts: float = 0.0  # whole sentences, spoken; the other songs are sung by people
    doubled: float = 0.2  # of these: a second take sounds along
    apart: float = 0.0  # seconds by which that take is late at most
    aged: float = 0.0  # of these: sung by someone of another size: a child, a smaller or a larger adult
    clusters: float = 0.0  # of their syllables: with a consonant of another one before or after
    exhaled: float = 0.0  # of their phrases: end in breath


USUAL = Cast()
# All voices that there are, and more that a recorded voice can do.
EVERYONE = Cast(
    formant=0.12, spoken=0.14, sinsy=0.08, prompts=0.08, doubled=0.3, apart=0.035, aged=0.3, clusters=0.3, exhaled=0.4
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """What a composer may choose from. Every choice is drawn evenly.

    With `styles`, metres and bands are the styles' own, and so are the tempi, as far as they lie in `tempi`.
    """

    tonics: tuple[int, ...]  # pitch classes of the major key; a minor piece takes its relative minor
    modes: tuple[str, ...]
    tempi: tuple[int, int]  # lowest and highest, whole beats per minute, both included
    beats_per_bar: tuple[int, ...]
    bands: tuple[Band, ...]
    voices: tuple[Voice, ...]
    sevenths: float  # share of chords that take a seventh
    bars: int = 8
    dynamics: float = 4.0  # standard deviation of the players' velocities
    led: bool = True  # chords move least from the one before; else every chord has one voicing of its own
    onset_grid: Fraction | None = None  # seconds; the band's notes begin on its multiples
    styles: tuple[str, ...] = ()  # names of styles.STYLES; none: plain pieces
    forms: tuple[str, ...] = ()  # names of styles.FORMS; none: plain pieces have a verse and a chorus of `bars` in all
    people: bool = False  # real people sing and speak, too, each recorded in a room of its own (people.py)
    cast: Cast = USUAL
    tunes: float = 0.0  # share of arranged songs that sing an old tune (tunes.py), blues aside
    borrowed: float = 0.0  # share of an arranged song's chords that the parallel mode lends
    produced: bool = False  # kits of samples, amplifiers, a room and a master (production.py)


MEZZO = Voice()
TENOR = Voice(low=50, high=67, size=0.86, vibrato_rate=5.2, vibrato_depth=0.25, breath=0.3)

CODEC_FRAME = Fraction(1, 75)  # seconds
# One dry trio, one voice, the white keys: what a small model can learn. Widen with dataclasses.replace.
# A sampled instrument that starts on a codec frame with the same strength gives the same codes each time. Elsewhere the
# codes of a note depend on where within the frame it began, which nothing tells: most of their entropy is then noise.
NARROW = World(
    tonics=(0,),
    modes=("major", "minor"),
    tempi=(88, 112),
    beats_per_bar=(4,),
    bands=(Band(pad=None),),
    voices=(MEZZO,),
    sevenths=0.0,
    dynamics=0.0,
    led=False,
    onset_grid=CODEC_FRAME,
)

# The same trio in every key: what the default pack is trained on.
TRIO = replace(NARROW, tonics=tuple(range(12)), tempi=(80, 126))

# Every style, key and form, several voices.
WIDE = World(
    tonics=tuple(range(12)),
    modes=("major", "minor"),
    tempi=(60, 152),
    beats_per_bar=(4,),
    bands=(Band(),),
    voices=(
        MEZZO,
        TENOR,
        Voice(low=59, high=77, size=1.06, vibrato_rate=6.0, vibrato_depth=0.35, breath=0.25),
        Voice(low=55, high=70, size=0.95, vibrato_rate=5.0, vibrato_depth=0.12, breath=0.9),
        Voice(low=45, high=62, size=0.8, vibrato_rate=5.0, vibrato_depth=0.3, breath=0.35),
    ),
    sevenths=0.3,
    styles=(
        "pop", "rock", "ballad", "bossa nova", "swing", "blues", "waltz", "funk", "reggae", "house", "folk", "five"
    ),
    forms=("short", "song", "long song", "aaba", "aaba with solo", "blues"),
)  # fmt: skip

# One style and voice, on codec frames and struck evenly: what to widen a small model's world with next.
POP = replace(
    WIDE,
    voices=(MEZZO,),
    sevenths=0.0,
    dynamics=0.0,
    led=False,
    onset_grid=CODEC_FRAME,
    styles=("pop",),
    forms=("short",),
)

# Two singers, two basses, three that comp, sometimes strings; played with feeling, off any grid: what the stems pack is
# trained on. A separator sees what sounds, so it bears more variety than a model that must think of what to play.
BAND = replace(
    TRIO,
    bands=(
        Band(pad=None),
        Band(),
        Band(bass=32, comp=4, pad=None),  # acoustic bass, electric piano
        Band(bass=32, comp=24, pad=None),  # nylon guitar
        Band(comp=24),
    ),
    voices=(MEZZO, TENOR),
    sevenths=0.2,
    dynamics=4.0,
    led=True,
    onset_grid=None,
)

# The same bands with all voices that there are: five formant singers of all ranges, people who sing and speak, rooms,
# microphones and noise. A codec or a separator that is to know human voices has to hear some.
PEOPLE = replace(BAND, voices=WIDE.voices, people=True)

# Instruments that comp, a kind to a row, so that each kind is as likely as another.
COMPS = (
    (0, 1, 3), (4, 5), (6,), (7,), (11, 12, 8, 13), (16, 17, 18), (21, 23), (22,), (24, 25), (26, 27, 28, 29, 30),
    (105,), (104,), (40, 41), (42,), (46,), (56, 59), (57,), (61, 62), (65, 66, 64), (68, 70), (71,), (73, 75, 74),
    (80, 81, 85),
)  # fmt: skip
BASSES, PADS = (33, 32, 38, 34, 39, 35, 37), (48, 52, 89, None, 49, 90, 53, 51, 94, None, 50, 54, 88, 61, 95)
KITS = (0, 8, 16, 24, 25, 32, 40)

# The same voices over bands of everything that General MIDI can play chords on: what is to be asked for by name, and
# so has to be heard beside all others.
ENSEMBLE = replace(
    PEOPLE,
    tempi=(76, 132),
    bands=tuple(
        Band(
            KITS[(2 * turn + kind) % len(KITS)],
            BASSES[(3 * turn + kind) % len(BASSES)],
            programmes[turn % len(programmes)],
            PADS[(4 * turn + kind) % len(PADS)],
        )
        for turn in range(15)
        for kind, programmes in enumerate(COMPS)
    ),
)

# The same bands and voices for songs of at least 32 seconds, so that 30 can be heard of any. Half of them are sung by
# the formant singer, who sings the very syllables that are written: what is to hear words learns from those.
DUO = replace(ENSEMBLE, tempi=(80, 120), bars=16, cast=replace(USUAL, formant=0.5))

# Everything: every style, form, key and voice, old tunes, borrowed chords, kits of real samples, amplifiers, rooms and
# masters: for packs that are to hear what is not composed. sources.py says what has to be installed, and its licences.
OPEN = replace(
    WIDE,
    styles=(*WIDE.styles, "slow blues", "doo-wop", "gospel"),
    sevenths=0.35,
    dynamics=7.0,
    tunes=0.25,
    borrowed=0.12,
    people=True,
    cast=EVERYONE,
    produced=True,
)

WORLDS = {
    "narrow": NARROW, "trio": TRIO, "band": BAND, "pop": POP, "wide": WIDE, "people": PEOPLE, "ensemble": ENSEMBLE,
    "duo": DUO, "open": OPEN,
}  # fmt: skip
