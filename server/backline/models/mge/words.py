"""What the instruments of a song are called: labels, words for them, and phrases that ask for them.

A stem of a song has several labels, the narrowest first: `labels_of("comp", 4)` is ("electric piano", "keys"). Every
label has trained words; HELD_OUT has words that nothing here is trained on, by which it is judged what people type
who have not read this file. The towers (towers.py) learn from `phrases()`, the network from `ask` and `ask_for_all`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from numpy.random import Generator

LETTERS = "abcdefghijklmnopqrstuvwxyz"
ASKED = "the sound of the {}"  # the paper's phrase


@dataclass(frozen=True)
class Label:
    """An instrument, or a family of them.

    `programmes` are those of General MIDI, counted from 0. A family has none of its own, but those of its members.
    """

    others: str  # all other words for it that are trained, a comma between
    programmes: tuple[int, ...] = ()
    members: tuple[str, ...] = ()  # of a family: other labels


VOICE, DRUMS, BASS = "vocals", "drums", "bass"

INSTRUMENTS: dict[str, Label] = {
    VOICE: Label(
        "soprano, tenor voice, baritone singer, rap, rapping, humming, whispering, opera singer, boy singing, vocal "
        "line, chanting, vocal, voice, voices, singer, singing, sung melody, lead vocals, lead singer, a cappella, "
        "acapella, vox, topline, human voice, somebody singing, the words, rapper, woman singing, man singing, "
        "speech, talking, female vocals, male vocals, melody that is sung",
    ),
    DRUMS: Label(
        "bongos, cajon, djembe, timpani, trap kit, rimshot, brushes, drum fill, drum solo, techno beat, hip hop "
        "beat, maracas, cowbell, drum, drum kit, drum set, percussion, kick, kick drum, snare, snare drum, hi-hat, "
        "hihat, hi-hats, cymbals, crash cymbal, ride cymbal, toms, beat, beats, groove, drum machine, drum loop, "
        "808, breakbeat, tambourine, shaker, congas, drumming, hand claps, rhythm, drum part, drum track, "
        "percussive hits",
    ),
    "double bass": Label(
        "bass viol, bull fiddle, bowed bass, bass fiddle, upright bass, acoustic bass, standup bass, string bass, "
        "walking bass, plucked bass, jazz bass",
        programmes=(32, 43),
    ),
    "electric bass": Label(
        "precision bass, rock bass, bass amp, four string bass, bass guitar, fingered bass, picked bass, slap bass, "
        "fretless bass, e-bass, funk bass",
        programmes=(33, 34, 35, 36, 37),
    ),
    "synth bass": Label(
        "wobble bass, dubstep bass, bass synth, techno bass, synthesizer bass, sub bass, acid bass, electronic "
        "bass, 303, reese",
        programmes=(38, 39),
    ),
    "piano": Label(
        "bechstein, keyboard piano, piano solo, piano ballad, piano keys, spinet piano, baby grand, ragtime piano, "
        "grand piano, acoustic piano, upright piano, piano chords, concert grand, honky-tonk piano, piano part, "
        "piano playing, bright piano, the ivories, player piano",
        programmes=(0, 1, 2, 3),
    ),
    "electric piano": Label(
        "suitcase piano, stage keyboard, chorus piano, digital piano, rhodes, fender rhodes, wurlitzer, e-piano, "
        "epiano, electric keys, dx7, fm piano, tine piano, stage piano, electric piano chords",
        programmes=(4, 5),
    ),
    "harpsichord": Label(
        "clavichord, virginal, bach keyboard, baroque harpsichord, baroque keyboard, harpsichord part, spinet, "
        "plucked keyboard",
        programmes=(6,),
    ),
    "clavinet": Label(
        "clav, funky clav, d6, funk keyboard, clavinet riff",
        programmes=(7,),
    ),
    "mallets": Label(
        "kalimba, gamelan, steel drum, balafon, hand bells, xylophone solo, toy piano, vibraphone, vibes, marimba, "
        "xylophone, glockenspiel, celesta, music box, bells, tubular bells, mallet percussion, tuned percussion, "
        "chimes, mallet instrument",
        programmes=(8, 9, 10, 11, 12, 13, 14),
    ),
    "organ": Label(
        "leslie speaker, vox continental, harmonium, pump organ, cathedral organ, theatre organ, organ solo, "
        "hammond, hammond organ, b3, church organ, pipe organ, rock organ, drawbar organ, reed organ, percussive "
        "organ, jazz organ, gospel organ, rotary organ, organ chords",
        programmes=(16, 17, 18, 19, 20),
    ),
    "accordion": Label(
        "polka, melodeon, cajun accordion, bellows, french accordion, bandoneon, tango accordion, musette, button "
        "accordion, piano accordion",
        programmes=(21, 23),
    ),
    "harmonica": Label(
        "blues harmonica, bob dylan harmonica, diatonic harmonica, blues harp, mouth organ, harmonica solo, mouth "
        "harmonica",
        programmes=(22,),
    ),
    "acoustic guitar": Label(
        "ukulele, guitar arpeggio, campfire guitar, gypsy guitar, lute, mandolin, bossa nova guitar, nylon guitar, "
        "nylon string guitar, classical guitar, spanish guitar, steel string guitar, folk guitar, western guitar, "
        "strummed guitar, fingerpicked guitar, unplugged guitar, twelve string",
        programmes=(24, 25),
    ),
    "electric guitar": Label(
        "les paul, telecaster, gibson, guitar amp, wah wah, heavy metal, distortion, surf guitar, palm mutes, jazz "
        "guitar, clean guitar, muted guitar, distorted guitar, overdriven guitar, rock guitar, lead guitar, rhythm "
        "guitar, power chords, guitar riff, guitar solo, crunchy guitar, metal guitar, fuzz guitar, funk guitar, "
        "e-guitar",
        programmes=(26, 27, 28, 29, 30, 31),
    ),
    "banjo": Label(
        "bluegrass banjo, dixieland banjo, tenor banjo, five string banjo, banjo picking, banjo roll, country banjo",
        programmes=(105,),
    ),
    "sitar": Label(
        "ravi shankar, tanpura, indian classical music, indian strings, sitar drone, raga, indian lute",
        programmes=(104,),
    ),
    "violin": Label(
        "stradivarius, fiddle tune, violin concerto, gypsy violin, fiddle, solo violin, violin solo, viola, violin "
        "melody, bowed solo",
        programmes=(40, 41),
    ),
    "cello": Label(
        "cello suite, baroque cello, viola da gamba, solo cello, cello part, cello melody, low bowed strings",
        programmes=(42,),
    ),
    "harp": Label(
        "harp strings, lyre, harp arpeggio, concert harp, plucked harp, harp glissando, celtic harp, orchestral harp",
        programmes=(46,),
    ),
    "string ensemble": Label(
        "symphony, chamber orchestra, violas, film strings, string pad, string section, string orchestra, orchestra "
        "strings, synth strings, slow strings, violins, bowed strings, orchestra, string quartet, lush strings, "
        "tremolo strings, pizzicato strings",
        programmes=(44, 45, 48, 49, 50, 51, 55),
    ),
    "choir": Label(
        "chorus, gregorian chant, hymn, cathedral choir, group of singers, boys choir, backing vocals, choir aahs, "
        "voice oohs, backing choir, oohs and aahs, synth voices, gospel choir, church choir, wordless choir, "
        "angelic voices, choir pad, chorus of voices",
        programmes=(52, 53, 54),
    ),
    "trumpet": Label(
        "bugle, mariachi trumpet, fanfare, harmon mute, miles davis, muted trumpet, solo trumpet, trumpet solo, "
        "flugelhorn, jazz trumpet",
        programmes=(56, 59),
    ),
    "trombone": Label(
        "sackbut, bass trombone, sousaphone, jazz trombone, euphonium, trombone solo, slide trombone, tuba, "
        "trombones, low brass",
        programmes=(57, 58),
    ),
    "brass section": Label(
        "marching band, brass fanfare, french horn, horn ensemble, french horns, horn section, synth brass, brass "
        "stabs, brass ensemble, big band, brass band, brass hits, horn stabs",
        programmes=(60, 61, 62, 63),
    ),
    "saxophone": Label(
        "bebop sax, smooth jazz sax, charlie parker, tenor saxophone, sax, alto sax, tenor sax, soprano sax, "
        "baritone sax, sax solo, jazz sax, saxophones",
        programmes=(64, 65, 66, 67),
    ),
    "oboe": Label(
        "oboe melody, english horn solo, double reed woodwind, english horn, cor anglais, bassoon, double reed, "
        "oboe solo",
        programmes=(68, 69, 70),
    ),
    "clarinet": Label(
        "swing clarinet, benny goodman, clarinet part, bass clarinet, clarinet solo, clarinet melody, single reed, "
        "klezmer clarinet",
        programmes=(71,),
    ),
    "flute": Label(
        "fife, flute melody, irish flute, native flute, recorder, pan flute, panpipes, tin whistle, whistle, "
        "ocarina, shakuhachi, flute solo, concert flute, bamboo flute",
        programmes=(72, 73, 74, 75, 76, 77, 78, 79),
    ),
    "synth lead": Label(
        "juno lead, arpeggio synth, edm lead, video game music, eurodance synth, lead synth, saw lead, square lead, "
        "sawtooth lead, chiptune, synth melody, synth solo, 8 bit, trance lead, supersaw, pluck synth",
        programmes=(80, 81, 82, 83, 84, 85, 86, 87),
    ),
    "synth pad": Label(
        "ambient wash, string machine, dreamy pad, space music, new age music, pad, pads, warm pad, ambient pad, "
        "new age pad, polysynth, atmosphere, held chords, sustained chords, drone, ambient texture, choir synth "
        "pad, background pad",
        programmes=(88, 89, 90, 91, 92, 93, 94, 95),
    ),
}

FAMILIES: dict[str, Label] = {
    BASS: Label(
        "deep bass, bass solo, the low end, low end, bass part, bass notes, bass track, low frequencies, bass "
        "player, bass riff, basses, the bottom, bass groove",
        members=("double bass", "electric bass", "synth bass"),
    ),
    "keys": Label(
        "keyboardist, piano or organ, keyboard solo, keyboard, keyboards, keyboard player, keyboard part, keyboard "
        "chords",
        members=("piano", "electric piano", "harpsichord", "clavinet", "organ"),
    ),
    "guitar": Label(
        "guitar strings, guitar music, plectrum, fretboard, guitars, guitar part, guitar player, guitar chords, six "
        "string, strumming, guitar track, axe",
        members=("acoustic guitar", "electric guitar"),
    ),
    "strings": Label(
        "bowed string instruments, classical strings, string instruments, bowed instruments, string part, string "
        "players",
        members=("string ensemble", "violin", "cello"),
    ),
    "brass": Label(
        "brass player, brass music, wind band, horns, brass instruments, brass part, horn players",
        members=("trumpet", "trombone", "brass section"),
    ),
    "woodwinds": Label(
        "woodwind section, reed instruments, wind quintet, woodwind, wind instruments, winds, reeds",
        members=("saxophone", "oboe", "clarinet", "flute"),
    ),
    "synth": Label(
        "oscillator, modular synth, korg, roland, electronic music, synth sounds, synthesizer, synths, electronic "
        "sounds, analog synth, keyboard synth, electronics",
        members=("synth lead", "synth pad"),
    ),
}

LABELS: dict[str, Label] = INSTRUMENTS | FAMILIES

# Words for labels that are in no phrase. They were chosen before anything was trained, and are never to be changed to
# suit a tower: a word that people miss moves to the label's own, and another takes its place here.
HELD_OUT: dict[str, tuple[str, ...]] = {
    VOICE: ("vocalist", "frontman", "crooner"),
    DRUMS: ("drummer", "drumkit", "backbeat", "percussionist"),
    BASS: ("bassist", "bassline"),
    "double bass": ("contrabass",),
    "synth bass": ("subbass",),
    "piano": ("pianist", "pianoforte", "steinway"),
    "electric piano": ("wurly",),
    "organ": ("organist", "farfisa"),
    "harpsichord": ("cembalo",),
    "mallets": ("vibraphonist",),
    "accordion": ("squeezebox", "concertina"),
    "guitar": ("guitarist",),
    "acoustic guitar": ("fingerstyle", "flamenco"),
    "electric guitar": ("stratocaster",),
    "violin": ("violinist", "fiddler"),
    "cello": ("cellist", "violoncello"),
    "strings": ("philharmonic",),
    "choir": ("chorale",),
    "trumpet": ("trumpeter", "cornet"),
    "saxophone": ("saxophonist",),
    "flute": ("flautist", "piccolo"),
    "clarinet": ("clarinettist",),
    "harp": ("harpist",),
    "synth": ("synthesiser", "moog"),
}

# How one asks; the first is the paper's (Section 4.1).
TEMPLATES = (
    ASKED, "{}", "the {}", "only the {}", "just {}", "{} only", "solo {}", "isolate the {}",
    "give me the {}", "extract {}", "I want to hear the {}", "{} stem", "{} please", "a {}", "play some {}", "add {}",
)  # fmt: skip
# What tells how it sounds, and no other instrument.
ADJECTIVES = ("soft", "loud", "warm", "bright", "clean", "live", "dry", "vintage", "gentle", "heavy", "quiet", "mellow")
WHOLE = (
    "everything", "the whole song", "the mix", "the full mix", "the whole band and the singer", "all of it",
    "everything together", "the mixture",
)  # fmt: skip
BAND = (
    "the band", "the accompaniment", "the backing track", "the instrumental", "karaoke", "the instruments",
    "instrumental version", "backing band",
)  # fmt: skip
RHYTHM_SECTION = ("the rhythm section", "rhythm section", "bass and drums", "drum and bass")
WITHOUT = ("everything but the {}", "everything except the {}", "all but the {}", "the mix without the {}", "no {}",
           "remove the {}", "the song without {}", "mute the {}")  # fmt: skip


@cache
def labels_of(part: str, programme: int | None = None) -> tuple[str, ...]:
    """What a stem of a song is called, the narrowest label first.

    Args:
        part: "vocal", "drums", "bass", "comp" or "pad" (music/world.py), or a label of its own, as corpora have them.
        programme: of General MIDI, counted from 0, where an instrument plays it.

    Raises:
        ValueError: no label has that programme or part.
    """
    if part in ("vocal", VOICE):
        return (VOICE,)
    if part == DRUMS:
        return (DRUMS,)
    if programme is None and part in LABELS:
        name = part
    else:
        found = [name for name, label in INSTRUMENTS.items() if programme in label.programmes]
        if not found:
            raise ValueError(f"no label has programme {programme} of part {part!r}: give it one in models/mge/words.py")
        name = found[0]
    return (name, *(family for family, label in FAMILIES.items() if name in label.members))


def instruments_of(name: str) -> tuple[str, ...]:
    """The instruments that a label stands for: of a family its members. Raises KeyError: there is no such label."""
    return LABELS[name].members or (name,)


def words_of(name: str) -> tuple[str, ...]:
    """All trained words for a label, its own name first."""
    return (name, *LABELS[name].others.split(", "))


def ask(rng: Generator, labels: Sequence[str]) -> str:
    """A phrase that asks for what has these labels: the narrowest in two cases of three, in any of its words."""
    name = labels[0] if len(labels) == 1 or rng.random() < 2 / 3 else labels[int(rng.integers(1, len(labels)))]
    word = name if rng.random() < 0.4 else _drawn(rng, words_of(name))
    if rng.random() < 0.2:
        word = f"{_drawn(rng, ADJECTIVES)} {word}"
    return phrase(_drawn(rng, TEMPLATES), word)


def ask_for_all(rng: Generator, wanted: Sequence[Sequence[str]], absent: Sequence[Sequence[str]] = ()) -> str:
    """A phrase that asks for a sum of stems, each given by its labels, out of a song that has `absent` as well.

    One stem is asked for as `ask` does, several by name: "the sound of the bass, drums and piano". Where one of them
    has no label, by what is left out.

    Raises:
        ValueError: no words tell it, see `can_be_asked_for`.
    """
    nameless = not all(wanted)
    if not absent and len(wanted) > 1 and (rng.random() < 0.5 or nameless):
        return _drawn(rng, WHOLE)
    if [tuple(labels) for labels in absent] == [(VOICE,)] and len(wanted) > 1 and rng.random() < 0.5:
        return _drawn(rng, BAND)
    if len(absent) == 1 and absent[0] and len(wanted) > 1 and (rng.random() < 0.6 or nameless):
        return phrase(_drawn(rng, WITHOUT), _called(rng, absent[0]))
    if nameless or not wanted:
        raise ValueError("one of the stems has no label: nothing asks for it")
    if len(wanted) == 1:
        return ask(rng, wanted[0])
    if {labels[-1] for labels in wanted} == {BASS, DRUMS} and rng.random() < 0.5:
        return _drawn(rng, RHYTHM_SECTION)
    names = [_called(rng, wanted[at]) for at in rng.permutation(len(wanted))]
    return phrase(_drawn(rng, TEMPLATES[:5]), together(names))


def can_be_asked_for(wanted: Sequence[Sequence[str]], absent: Sequence[Sequence[str]]) -> bool:
    """Whether `ask_for_all` has words for it: each stem has a label, or it is all of a song or all but one that has."""
    if all(wanted):
        return bool(wanted)
    return len(wanted) > 1 and (not absent or (len(absent) == 1 and bool(absent[0])))


def together(names: Sequence[str]) -> str:
    """ "bass, drums and piano": the names without repetition, in their order."""
    once = list(dict.fromkeys(names))
    return once[0] if len(once) == 1 else f"{', '.join(once[:-1])} and {once[-1]}"


def phrase(template: str, word: str) -> str:
    """A template with its word, without a second article."""
    return " ".join(template.format(word).replace("the the ", "the ").replace("a the ", "the ").split())


@cache
def phrases() -> tuple[tuple[str, frozenset[str]], ...]:
    """Phrases, each with the instruments that it means, all of them.

    Every word of every label in the paper's template, bare, and in some of the others; with adjectives; sums of two and
    three labels; everything but one. Always the same.
    """
    rng = np.random.default_rng(0x3A1)
    everything = frozenset(INSTRUMENTS)
    found: dict[str, frozenset[str]] = {}
    for name in LABELS:
        meant = frozenset(instruments_of(name))
        for word in words_of(name):
            for template in (*TEMPLATES[:3], *(_drawn(rng, TEMPLATES[3:]) for _ in range(2))):
                found.setdefault(phrase(template, word), meant)
            found.setdefault(phrase(_drawn(rng, TEMPLATES[:3]), f"{_drawn(rng, ADJECTIVES)} {word}"), meant)
        for template in TEMPLATES:
            found.setdefault(phrase(template, name), meant)
        for template in WITHOUT:
            found.setdefault(phrase(template, name), everything - meant)
    pairs = list(combinations(LABELS, 2))
    for number in rng.permutation(len(pairs))[:300]:
        names = [pairs[number][at] for at in rng.permutation(2)]
        found.setdefault(phrase(_drawn(rng, TEMPLATES[:5]), together(names)), _meant(names))
    for _ in range(300):
        names = [str(name) for name in rng.choice(list(LABELS), 3, replace=False)]
        found.setdefault(phrase(_drawn(rng, TEMPLATES[:3]), together(names)), _meant(names))
    found |= dict.fromkeys(WHOLE, everything)
    found |= dict.fromkeys(BAND, everything - {VOICE})
    found |= dict.fromkeys(RHYTHM_SECTION, _meant((DRUMS, BASS)))
    return tuple(found.items())


@cache
def phrases_for(name: str) -> tuple[str, ...]:
    """Those of `phrases()` that ask for that label and nothing else."""
    meant = frozenset(instruments_of(name))
    return tuple(each for each, means in phrases() if means == meant)


def mistyped(rng: Generator, text: str) -> str:
    """The text with one letter of a word of four and more letters wrong: left out, doubled, swapped or another one."""
    words = text.split()
    long = [at for at, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    if not long:
        return text
    chosen = long[int(rng.integers(len(long)))]
    word = words[chosen]
    at = int(rng.integers(len(word) - 1))
    other = LETTERS[int(rng.integers(len(LETTERS)))]
    middle = (word[at + 1], word[at] + word[at : at + 2], word[at + 1] + word[at], other + word[at + 1])
    words[chosen] = word[:at] + middle[int(rng.integers(4))] + word[at + 2 :]
    return " ".join(words)


def _meant(names: Collection[str]) -> frozenset[str]:
    return frozenset(instrument for name in names for instrument in instruments_of(name))


def _called(rng: Generator, labels: Sequence[str]) -> str:
    """Any label of a stem."""
    return labels[int(rng.integers(len(labels)))]


def _drawn(rng: Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]
