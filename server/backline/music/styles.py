"""Styles and song forms as data: what a band plays in pop, swing, bossa nova, ..., for arranger.py to put together.

Figures are written a character to the sixteenth, from the first beat of a bar; "-" holds, "." rests, blanks only part.
Drums: x a stroke, X an accent, o a ghost note. Bass: R root, 3, 5, 7 and 8 above it, a leads into the next chord.
Comping: x the chord, X accented, digits its voices from the lowest. Progressions are Roman numerals on the key's own
scale, a bar each, or two with a comma between. To add a style, write one and name it in STYLES; in which worlds it
occurs, world.py says.
"""

from __future__ import annotations

from dataclasses import dataclass

from backline.music.theory import Metre
from backline.music.world import Band

# Keys of the General MIDI percussion map.
DRUMS = {
    "kick": 36, "rim": 37, "snare": 38, "clap": 39, "hat": 42, "pedal": 44, "open": 46, "ride": 51, "tambourine": 54,
    "cowbell": 56, "high conga": 63, "low conga": 64, "shaker": 70,
}  # fmt: skip

# Names and bars. How much the band plays in a section is its level.
FORMS = {
    "short": "verse 4, chorus 4",
    "song": "intro 4, verse 8, chorus 8, verse 8, bridge 8, chorus 8, outro 4",
    "long song": "intro 4, verse 8, chorus 8, verse 8, chorus 8, solo 8, bridge 8, chorus 8, chorus 8, outro 4",
    "aaba": "intro 4, verse 8, verse 8, bridge 8, verse 8",
    "aaba with solo": "intro 4, verse 8, verse 8, bridge 8, verse 8, solo 8, bridge 8, verse 8, outro 4",
    "blues": "intro 4, verse 12, verse 12, solo 12, verse 12",
}
LEVELS = {
    "intro": "quiet", "verse": "usual", "chorus": "full", "bridge": "quiet", "solo": "full", "outro": "quiet"
}  # fmt: skip
SONGS = ("short", "song", "long song")
STANDARDS = ("short", "aaba", "aaba with solo")

Groove = dict[str, str]  # figure of each drum


@dataclass(frozen=True)
class Style:
    """How one kind of music is played. Figures are given by level, several to draw from."""

    name: str
    metre: Metre
    tempi: tuple[int, int]  # lowest and highest, quarter notes per minute
    forms: tuple[str, ...]  # names of FORMS
    bands: tuple[Band, ...]
    loops: dict[str, tuple[str, ...]]  # progressions in "major" and "minor"
    drums: dict[str, tuple[Groove, ...]]
    bass: dict[str, tuple[str, ...]]
    comp: dict[str, tuple[str, ...]]
    fills: bool = True  # over toms at the end of sections, with crashes
    swing: float = 0.5  # where the middle of a swung unit falls: 0.5 straight, 0.67 triplets
    swung_beats: float = 1.0  # length of a swung unit: 1 swings eighths, 0.5 sixteenths


POP = Style(
    "pop", Metre(4), (88, 126), SONGS,
    (Band(0, 33, 0, 48), Band(8, 33, 4, 89), Band(0, 34, 25, 48), Band(25, 33, 27, 88)),
    {
        "major": ("I V vi IV", "vi IV I V", "I vi IV V", "IV V vi I", "I iii IV V", "ii IV I V"),
        "minor": ("i VI III VII", "i iv VI V", "VI VII i i", "i III VII iv"),
    },
    {
        "quiet": (
            {"hat": "x...x...x...x...", "kick": "x..............."},
            {"rim": "....x.......x...", "kick": "x.......x......."},
        ),
        "usual": (
            {"kick": "x.......x.x.....", "snare": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
            {"kick": "x.....x.x.......", "snare": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
        ),
        "full": (
            {"kick": "x.......x.x...x.", "snare": "....X.......X...", "ride": "x.o.x.o.x.o.x.o."},
            {"kick": "x..x....x.x.....", "snare": "....X.......X...", "hat": "x.x.x.x.x.x.x.x."},
        ),
    },
    {
        "quiet": ("R---------------", "R-------R-------"),
        "usual": ("R-----R-R---5---", "R-------R---R-5-", "R---R---5---R-a-"),
        "full": ("R-R-R-R-R-R-R-R-", "R--R--R-R--R--5-", "R---8---R---5-a-"),
    },
    {
        "quiet": ("X---------------", "0-1-2-1-0-1-2-1-"),
        "usual": ("X---x---x---x---", "X-----x---x-----", "0-2-1-2-0-2-1-2-"),
        "full": ("X-x-x-x-X-x-x-x-", "X--x--x-X--x--x-", "X---x---X---x---"),
    },
)  # fmt: skip

ROCK = Style(
    "rock", Metre(4), (100, 150), SONGS,
    (Band(16, 34, 27, 16), Band(0, 33, 27, 18), Band(16, 34, 28, 48)),
    {
        "major": ("I bVII IV I", "I IV V IV", "I V IV IV", "vi IV I V", "I I IV V"),
        "minor": ("i VII VI VII", "i VI VII i", "i III VII VI", "i iv i V"),
    },
    {
        "quiet": ({"kick": "x.......x.......", "hat": "x...x...x...x..."},),
        "usual": (
            {"kick": "x.......x.x.....", "snare": "....X.......X...", "hat": "x.x.x.x.x.x.x.x."},
            {"kick": "x.x.....x.x.....", "snare": "....X.......X...", "hat": "x.o.x.o.x.o.x.o."},
        ),
        "full": (
            {"kick": "x.x...x.x.x.....", "snare": "....X.......X...", "open": "x...x...x...x..."},
            {"kick": "x.....x.x.x...x.", "snare": "....X.......X...", "ride": "x.x.x.x.x.x.x.x."},
        ),
    },
    {
        "quiet": ("R-------R-------",),
        "usual": ("R-R-R-R-R-R-R-R-", "R---R-R-R---R-R-"),
        "full": ("R-R-R-R-R-R-5-a-", "R-R-8-R-R-R-5-R-"),
    },
    {
        "quiet": ("X---------------", "X-------x-------"),
        "usual": ("X-x-x-x-x-x-x-x-", "X---x-x-X---x-x-"),
        "full": ("X-----x-X-----x-", "X-x-X-x-X-x-X-x-"),
    },
)  # fmt: skip

BALLAD = Style(
    "ballad", Metre(4), (60, 84), SONGS,
    (Band(0, 33, 0, 48), Band(0, 32, 0, 49), Band(40, 35, 4, 89)),
    {
        "major": ("I vi IV V", "I V vi IV", "I iii vi IV", "IV V iii,vi ii,V", "I ii7 IV,V I"),
        "minor": ("i VI III VII", "i iv VII III", "i V VI iv", "VI VII i iv,V"),
    },
    {
        "quiet": ({"rim": "........x......."}, {"shaker": "x.o.x.o.x.o.x.o."}),
        "usual": (
            {"kick": "x.........x.....", "rim": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
            {"kick": "x.......x.......", "rim": "....x.......x...", "hat": "x...x...x...x..."},
        ),
        "full": (
            {"kick": "x......xx.......", "snare": "....x.......x...", "ride": "x.o.x.o.x.o.x.o."},
            {"kick": "x.........x.....", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
        ),
    },
    {
        "quiet": ("R---------------",),
        "usual": ("R-------5-------", "R-----R-5---R---"),
        "full": ("R-----R-5---8---", "R--R----5--R--a-"),
    },
    {
        "quiet": ("X---------------", "0---1---2---1---"),
        "usual": ("0-1-2-1-0-1-2-1-", "0-2-1-2-0-2-1-2-"),
        "full": ("X---x---x---x---", "X-1-x-1-x-1-x-1-"),
    },
)  # fmt: skip

BOSSA = Style(
    "bossa nova", Metre(4), (112, 144), STANDARDS,
    (Band(40, 32, 24, 48), Band(0, 32, 24, 89), Band(40, 32, 4, 52)),
    {
        "major": ("Imaj7 vi7 ii7 V7", "Imaj7 Imaj7 ii7 V7", "ii7 V7 Imaj7 vi7", "Imaj7 II7 ii7 V7"),
        "minor": ("i7 iv7 iim7b5 V7", "i7 i7 iim7b5 V7", "i7 VImaj7 iim7b5 V7", "iv7 VII7 IIImaj7 V7"),
    },
    {
        "quiet": ({"shaker": "x.o.x.o.x.o.x.o.", "kick": "x.....x.x.....x."},),
        "usual": (
            {
                "kick": "x.....x.x.....x.x.....x.x.....x.",
                "rim": "x.....x.....x.......x.....x.....",
                "hat": "x.o.x.o.x.o.x.o.x.o.x.o.x.o.x.o.",
            },
        ),
        "full": (
            {
                "kick": "x.....x.x.....x.x.....x.x.....x.",
                "rim": "x.....x.....x.......x.....x.....",
                "shaker": "xoxoxoxoxoxoxoxoxoxoxoxoxoxoxoxo",
                "pedal": "....x.......x.......x.......x...",
            },
        ),
    },
    {
        "quiet": ("R-----5-5-----R-",),
        "usual": ("R-----5-5-----R-", "R-----R-5-----5-"),
        "full": ("R-----R-5-----a-", "R-----5-8-----5-"),
    },
    {
        "quiet": ("X---------------",),
        "usual": ("x-.x-..x..x-..x-...x-..x..x-..x.", "x...x..x..x.x...x..x..x..x..x..."),
        "full": ("x..x..x...x..x..x..x..x...x.x...",),
    },
    fills=False,
)  # fmt: skip

SWING = Style(
    "swing", Metre(4), (108, 152), STANDARDS,
    (Band(32, 32, 0, None), Band(40, 32, 26, None), Band(32, 32, 26, 61)),
    {
        "major": ("ii7 V7 Imaj7 vi7", "Imaj7 vi7 ii7 V7", "iii7 VI7 ii7 V7", "Imaj7 IV7 iii7,VI7 ii7,V7"),
        "minor": ("i7 iim7b5,V7 i7 V7", "iim7b5 V7 i7 i7", "i7 iv7 iim7b5 V7", "i7 VI7 iim7b5,V7 i7"),
    },
    {
        "quiet": ({"pedal": "....x.......x..."}, {"ride": "x...x...x...x...", "pedal": "....x.......x..."}),
        "usual": (
            {"ride": "x...x.o.x...x.o.", "pedal": "....x.......x...", "kick": "o...o...o...o..."},
            {"ride": "x...x.o.x...x.o.", "pedal": "....x.......x...", "rim": "............x..."},
        ),
        "full": (
            {"ride": "X...x.o.X...x.o.", "pedal": "....x.......x...", "snare": "......o.......o."},
        ),
    },
    {
        "quiet": ("R-------5-------", "R-------3-------"),
        "usual": ("R---3---5---a---", "R---5---8---a---", "R---3---5---7---R---5---3---a---"),
        "full": ("R---3---5---a---", "R---8---5---a---"),
    },
    {
        "quiet": ("X---------------", "X-------x-------"),
        "usual": ("x-----x.........", "..x.......x.....x-----x.........", "......x-------x-"),
        "full": ("x.....x.......x.", "x...x...x...x...", "x-----x.....x..."),
    },
    fills=False, swing=0.66,
)  # fmt: skip

BLUES = Style(
    "blues", Metre(4), (72, 126), ("blues",),
    (Band(0, 33, 27, 16), Band(0, 32, 0, None), Band(16, 33, 16, None)),
    {
        "major": ("I7 I7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 V7", "I7 IV7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 V7"),
        "minor": ("i7 i7 i7 i7 iv7 iv7 i7 i7 VI7 V7 i7 V7",),
    },
    {
        "quiet": ({"hat": "x...x...x...x...", "kick": "x.......x......."},),
        "usual": ({"kick": "x.......x.......", "snare": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},),
        "full": ({"kick": "x.....x.x.....x.", "snare": "....X.......X...", "ride": "x.o.x.o.x.o.x.o."},),
    },
    {
        "quiet": ("R-------5-------",),
        "usual": ("R---3---5---3---", "R-R-3-3-5-5-3-3-", "R---R---5---a---"),
        "full": ("R-R-3-3-5-5-7-5-", "R---3---5---7---8---7---5---3---"),
    },
    {
        "quiet": ("X---------------",),
        "usual": ("....x.......x...", "x-----x-........"),
        "full": ("x-x-..x-x-x-..x-", "..x...x...x...x."),
    },
    swing=0.64,
)  # fmt: skip

WALTZ = Style(
    "waltz", Metre(3), (84, 150), STANDARDS,
    (Band(40, 32, 0, 48), Band(0, 32, 21, 48), Band(32, 32, 24, 49)),
    {
        "major": ("I vi ii V", "I I IV V", "I V I IV,V", "Imaj7 iii7 IVmaj7 V7", "I IV ii V7"),
        "minor": ("i iv V i", "i VI iv V", "i VII VI V7", "i i iv V7"),
    },
    {
        "quiet": ({"pedal": "....x...x..."}, {"ride": "x..........."}),
        "usual": (
            {"kick": "x...........", "rim": "....x...x...", "ride": "x...o...o..."},
            {"kick": "x...........", "pedal": "....x...x...", "ride": "x...x.o.x..."},
        ),
        "full": ({"kick": "x...........", "snare": "....x...x...", "ride": "x...x.o.x.o."},),
    },
    {
        "quiet": ("R-----------",),
        "usual": ("R-----------", "R-------5---"),
        "full": ("R---5---a---", "R---3---5---"),
    },
    {
        "quiet": ("X-----------", "0---1---2---"),
        "usual": ("....x-..x-..", "0---2---1---", "0-1-2-1-2-1-"),
        "full": ("x...x-..x-..", "....X-..x-.."),
    },
    fills=False,
)  # fmt: skip

FUNK = Style(
    "funk", Metre(4), (92, 116), SONGS,
    (Band(0, 36, 27, None), Band(8, 33, 7, None), Band(16, 36, 4, 61)),
    {
        "major": ("I7 I7 IV7 I7", "I7 IV7", "ii7 V7", "I7 bVII IV7 I7"),
        "minor": ("i7 i7 iv7 i7", "i7 iv7", "i7 VII", "i7 VI VII i7"),
    },
    {
        "quiet": ({"kick": "x.........x.....", "hat": "x.o.x.o.x.o.x.o."},),
        "usual": (
            {"kick": "x.x.......x..x..", "snare": "....X..o.o..X..o", "hat": "x.x.x.x.x.x.x.x."},
            {"kick": "x..x..x...x.....", "snare": "....X..o....X...", "hat": "xoxoxoxoxoxoxoxo"},
        ),
        "full": (
            {"kick": "x.x...x...x..x..", "snare": "....X..o.o..X..o", "hat": "x.x.x.x.x.x.x.x."},
        ),
    },
    {
        "quiet": ("R-----------8.7.",),
        "usual": ("R..R..8...R.7.8.", "R.R...R.8...7.5.", "R--...R.R..8..7."),
        "full": ("R.8.R..R..8.7.5.", "R..R..8.R..R.7.8"),
    },
    {
        "quiet": ("X---............",),
        "usual": ("..x...xx..x...x.", "x...x..x..x.x...", "....x..x....x..x"),
        "full": ("x.xx..x.x.xx..x.", "..xx..x...xx..x."),
    },
    swing=0.54, swung_beats=0.5,
)  # fmt: skip

REGGAE = Style(
    "reggae", Metre(4), (66, 88), SONGS,
    (Band(0, 33, 27, 16), Band(0, 34, 16, None), Band(8, 33, 0, 16)),
    {
        "major": ("I IV", "I V vi IV", "I ii", "I IV V IV"),
        "minor": ("i iv", "i VII", "i VI VII i", "i iv VII III"),
    },
    {
        "quiet": ({"hat": "x.o.x.o.x.o.x.o."},),
        "usual": (
            {"kick": "........x.......", "rim": "........x.......", "hat": "x.o.x.o.x.o.x.o."},
            {"kick": "....x.......x...", "rim": "....x.......x...", "hat": "x.o.x.o.x.o.x.o."},
        ),
        "full": ({"kick": "x...x...x...x...", "rim": "........x.....o.", "hat": "x.x.x.x.x.x.x.x."},),
    },
    {
        "quiet": ("R-------5-------",),
        "usual": ("R-..R-3-5-..3-..", "R--.5-.R..5-3-R-", "....R-3-5---R-.."),
        "full": ("R-R-3-..5-5-3-..", "R-..R-5-8-..5-3-"),
    },
    {
        "quiet": ("....x.......x...",),
        "usual": ("....X.......X...", "....X.x.....X.x."),
        "full": ("..x.X.x...x.X.x.", "....X.x.....X.x."),
    },
    swing=0.58,
)  # fmt: skip

HOUSE = Style(
    "house", Metre(4), (118, 128), SONGS,
    (Band(25, 38, 0, 89), Band(24, 39, 4, 88), Band(25, 38, 16, 90)),
    {
        "major": ("I V vi IV", "vi IV I V", "IV V vi vi", "ii7 V7 Imaj7 vi7"),
        "minor": ("i VI III VII", "i i VI VII", "i iv VI VII", "i7 iv7 VImaj7 VII"),
    },
    {
        "quiet": ({"shaker": "x.o.x.o.x.o.x.o."}, {"kick": "x...x...x...x..."}),
        "usual": (
            {"kick": "X...X...X...X...", "open": "..x...x...x...x.", "clap": "....x.......x..."},
            {"kick": "X...X...X...X...", "hat": "o.x.o.x.o.x.o.x.", "clap": "....x.......x..."},
        ),
        "full": (
            {
                "kick": "X...X...X...X...", "open": "..x...x...x...x.", "clap": "....x.......x..x",
                "shaker": "xoxoxoxoxoxoxoxo",
            },
        ),
    },
    {
        "quiet": ("R---------------",),
        "usual": ("..R-..R-..R-..R-", "R--R--R---R--R--"),
        "full": ("..R-..R-..8-..R-", "R.8.R.8.R.8.R.8."),
    },
    {
        "quiet": ("X---------------",),
        "usual": ("X--x--x---x--x--", "x-..x-..x-..x-.."),
        "full": ("X--x--x--x--x-x-", "..x-..x-..x-..x-"),
    },
)  # fmt: skip

FOLK = Style(
    "folk", Metre(6, 8), (84, 132), (*SONGS, "aaba"),
    (Band(0, 32, 25, 48), Band(40, 33, 24, 21), Band(0, 33, 0, 48)),
    {
        "major": ("I V vi IV", "I IV I V", "I iii IV V", "vi IV I V", "I IV,V I V"),
        "minor": ("i VII VI VII", "i iv i V", "i VI III VII", "i VII i iv,V"),
    },
    {
        "quiet": ({"shaker": "x.o.o.x.o.o."}, {"kick": "x..........."}),
        "usual": (
            {"kick": "x...........", "rim": "......x.....", "hat": "x.o.o.x.o.o."},
            {"kick": "x.........x.", "snare": "......x.....", "hat": "x.o.o.x.o.o."},
        ),
        "full": ({"kick": "x...x.....x.", "snare": "......X.....", "ride": "x.x.x.x.x.x."},),
    },
    {
        "quiet": ("R-----------",),
        "usual": ("R-----5-----", "R---R-5---R-"),
        "full": ("R---R-5---a-", "R-R-R-5-5-5-"),
    },
    {
        "quiet": ("X-----------", "0-1-2-2-1-0-"),
        "usual": ("0-1-2-0-1-2-", "0-1-2-1-2-1-"),
        "full": ("X---x-X---x-", "X-x-x-X-x-x-"),
    },
)  # fmt: skip

FIVE = Style(
    "five", Metre(5), (112, 152), STANDARDS,
    (Band(32, 32, 0, None), Band(40, 32, 4, 89)),
    {
        "major": ("Imaj7 ii7 Imaj7 V7", "I IV I V"),
        "minor": ("i,v i,v i,v i,v", "i7 iv7 i7 V7", "i VI iv V"),
    },
    {
        "quiet": ({"ride": "x...x...x...x...x..."},),
        "usual": ({"ride": "x...x.o.x...x...x.o.", "pedal": "....x.......x...x...", "kick": "x...........x......."},),
        "full": ({"ride": "X...x.o.x...X...x.o.", "snare": "....o.o.o.......x...", "kick": "x.....x.....x......."},),
    },
    {
        "quiet": ("R-----------5-------",),
        "usual": ("R---5-8-----R---5---", "R-----5-----R---a---"),
        "full": ("R---3---5---8---a---",),
    },
    {
        "quiet": ("X-----------x-------",),
        "usual": ("x.....x-....x...x...", "X-----x-----X---x---"),
        "full": ("X.....x-....X...x...",),
    },
    fills=False, swing=0.6,
)  # fmt: skip

SLOW_BLUES = Style(
    "slow blues", Metre(12, 8), (84, 110), ("blues",),
    (Band(0, 33, 27, 16), Band(0, 32, 0, None), Band(16, 33, 26, 61)),
    {
        "major": ("I7 IV7 I7 I7 IV7 IV7 I7 VI7 ii7 V7 I7 V7", "I7 I7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7,IV7 I7,V7"),
        "minor": ("i7 iv7 i7 i7 iv7 iv7 i7 i7 VI7 V7 i7 V7",),
    },
    {
        "quiet": ({"hat": "x.o.o.x.o.o.x.o.o.x.o.o.", "pedal": "......x...........x....."},),
        "usual": (
            {"kick": "x...........x.......x...", "snare": "......x...........x.....",
             "hat": "x.o.o.x.o.o.x.o.o.x.o.o."},
            {"kick": "x.........x.x...........", "rim": "......x...........x.....", "ride": "x...o.x...o.x...o.x...o."},
        ),
        "full": (
            {"kick": "x.......x.x.x.......x...", "snare": "......X...........X.....",
             "ride": "x.x.x.x.x.x.x.x.x.x.x.x."},
        ),
    },
    {
        "quiet": ("R-----------5-----------",),
        "usual": ("R-----3-----5-----3-----", "R---R-3---3-5---5-7---5-"),
        "full": ("R---R-3---3-5---5-8---7-", "R-----5---7-8---7-5-----"),
    },
    {
        "quiet": ("X-----------------------",),
        "usual": ("......x-..........x-....", "x-x-x-..................", "......x...x.......x...x."),
        "full": ("x-x-x-......x-x-x-......", "x...x-......x...x-......"),
    },
)  # fmt: skip

DOO_WOP = Style(
    "doo-wop", Metre(12, 8), (96, 126), SONGS,
    (Band(0, 32, 0, 52), Band(0, 33, 0, 48), Band(16, 32, 26, 52)),
    {
        "major": ("I vi IV V", "I vi ii V", "I I7 IV iv", "I iii IV V", "IV,iv I,vi ii V"),
        "minor": ("i VI iv V", "i i iv V7", "VI VII i i"),
    },
    {
        "quiet": ({"rim": "......x...........x....."},),
        "usual": (
            {"kick": "x...........x.......x...", "snare": "......x...........x.....",
             "hat": "x.x.x.x.x.x.x.x.x.x.x.x."},
            {"kick": "x.......x...x...........", "rim": "......x...........x.....", "hat": "x.o.o.x.o.o.x.o.o.x.o.o."},
        ),
        "full": (
            {"kick": "x.......x.x.x.......x.x.", "snare": "......X...........X.....",
             "ride": "x.x.x.x.x.x.x.x.x.x.x.x."},
        ),
    },
    {
        "quiet": ("R-----------------------",),
        "usual": ("R-----------5-----R---5-", "R-------R---5-------5---"),
        "full": ("R---R-3---3-5---5-3---a-", "R-----3-----5-----a-----"),
    },
    {
        "quiet": ("X-----------------------", "0-1-2-3-2-1-0-1-2-3-2-1-"),
        "usual": ("x-x-x-x-x-x-x-x-x-x-x-x-", "0-1-2-1-2-1-0-1-2-1-2-1-"),
        "full": ("X-x-x-X-x-x-X-x-x-X-x-x-",),
    },
)  # fmt: skip

GOSPEL = Style(
    "gospel", Metre(12, 8), (84, 120), (*SONGS, "aaba"),
    (Band(0, 33, 0, 16), Band(8, 36, 16, 52), Band(0, 33, 0, 52)),
    {
        "major": (
            "I,I7 IV,iv I,VI7 ii7,V7", "I,III7 vi7,I7 IV,iv I,V7", "I7 IV7 I7 V7", "IVmaj7,V7 iii7,vi7 ii7,V7 I"
        ),
        "minor": ("i7,iv7 i7,VI7 iim7b5,V7 i7", "i i iv7 V7"),
    },
    {
        "quiet": ({"tambourine": "......x...........x....."},),
        "usual": (
            {"kick": "x...........x.......x...", "snare": "......x...........x.....",
             "hat": "x.o.o.x.o.o.x.o.o.x.o.o."},
        ),
        "full": (
            {
                "kick": "x...x.......x...x...x...", "snare": "......X...........X...o.",
                 "ride": "x.x.x.x.x.x.x.x.x.x.x.x.",
                "tambourine": "o.o.o.x.o.o.o.o.o.x.o.o.", "clap": "......x...........x.....",
            },
        ),
    },
    {
        "quiet": ("R-----------5-----------",),
        "usual": ("R-------5---8-----5---R-", "R-----R---3-5-----R---a-"),
        "full": ("R---R-3---3-5---5-7---8-", "R---5-8-----5---3-R---a-"),
    },
    {
        "quiet": ("X-----------x-----------",),
        "usual": ("x-----x---x-x-----x---x-", "0-1-2-x-----0-1-2-x-----"),
        "full": ("X---x-X---x-X---x-X---x-", "X-x-x-X-----X-x-x-X-----"),
    },
)  # fmt: skip

STYLES = {
    style.name: style
    for style in (
        POP, ROCK, BALLAD, BOSSA, SWING, BLUES, WALTZ, FUNK, REGGAE, HOUSE, FOLK, FIVE, SLOW_BLUES, DOO_WOP, GOSPEL
    )
}  # fmt: skip
