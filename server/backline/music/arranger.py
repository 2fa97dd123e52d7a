"""Arranges a song in a style: form, chords, melody and the band's parts, from the figures of styles.py.

Sections of one name repeat their chords, melody and figures; how much the band plays goes by the section's level.
In a world of tunes some melodies are old ones, whose chords are their own, or found to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.random import Generator

from backline.music.backing import (
    BASS_HIGH,
    COMP_HIGH,
    COMP_LOW,
    CRASH,
    KICK,
    PAD_HIGH,
    PAD_LOW,
    drum_fill,
    hit,
    human,
    lead,
    nearest_bass,
)
from backline.music.harmonise import harmonise
from backline.music.melody import sung_melody, sung_tune, syllable
from backline.music.piece import ChordSpan, Note, Piece, Section
from backline.music.seeds import purpose
from backline.music.styles import DRUMS, FORMS, LEVELS, STYLES, Groove, Style
from backline.music.theory import Chord, Key, pitches_in
from backline.music.tunes import Tune, draw_tune
from backline.music.world import Voice, World

Drawn = TypeVar("Drawn")
STEP = 0.25  # beats: figures are written in sixteenths
SUNG = ("verse", "chorus", "bridge")
# What the parallel mode lends in place of a chord, as numerals on the key's own scale.
LENT = {
    "major": {"IV": "iv", "vi": "bVI", "ii": "iim7b5", "ii7": "iim7b5", "iii": "bIII", "V": "bVII", "IVmaj7": "iv7"},
    "minor": {"iv": "IV", "iv7": "IV7", "v": "V7", "i7": "i", "VI": "bII", "VII": "V7"},
}
BORROWABLE = 1.6  # loops hold that many chords to each that can be replaced, or nearly
VELOCITIES = {"X": 118, "x": 104, "o": 74}  # of drums


@dataclass(frozen=True)
class Material:
    """What sections of one name have in common. Times are in beats from the section's start."""

    chords: tuple[ChordSpan, ...]
    melody: tuple[Note, ...]
    groove: Groove
    bass: str
    comp: str


def arrange(rng: Generator, seed: int, world: World) -> Piece:
    """A song in one of the world's styles.

    Raises:
        ValueError: the world names no style or form that exists, or none that go together.
        TunesMissing: it has tunes, and they are not installed.
    """
    style = _choice(rng, _styles(world))
    modes = [mode for mode in world.modes if mode in style.loops]
    forms = [form for form in style.forms if form in world.forms]
    low, high = max(style.tempi[0], world.tempi[0]), min(style.tempi[1], world.tempi[1])
    if not modes or not forms or low > high:
        raise ValueError(
            f"style {style.name} does not fit this world: it is played in {' or '.join(style.loops)}, as "
            f"{' or '.join(style.forms)}, at {style.tempi[0]} to {style.tempi[1]} beats per minute; widen the world"
        )
    mode = _choice(rng, modes)
    key = Key((_choice(rng, world.tonics) + (0 if mode == "major" else 9)) % 12, mode)
    tempo = float(rng.integers(low, high + 1))
    band = _choice(rng, style.bands)
    voice = _choice(rng, world.voices)
    sections = _sections(FORMS[_choice(rng, forms)])
    bars, per_bar = sections[-1].first_bar + sections[-1].bars, style.metre.beats_per_bar
    tune = _tune(seed, world, style, modes, voice)
    if tune is not None:
        key, mode = tune.key, tune.key.mode

    materials: dict[str, Material] = {}
    loops: dict[str, str] = {}
    chords: list[ChordSpan] = []
    melody: list[Note] = []
    for section in sections:
        source = section.name if section.name in SUNG else "verse"  # whose chords an instrumental section plays
        if source not in loops:
            unused = [loop for loop in style.loops[mode] if loop not in loops.values()]
            loops[source] = _choice(rng, unused or list(style.loops[mode]))
        if section.name not in materials:
            excerpt = None if tune is None else _excerpt(tune, source, section.bars)
            if excerpt is None:
                own = _chords(rng, key, style, loops[source], section.bars, world)
            else:
                own = _tune_chords(rng, excerpt, world)
            if source in materials:
                own = tuple(span for span in materials[source].chords if span.start < section.bars * per_bar) or own
            lift = 2 if section.name == "chorus" else -2
            if section.name not in SUNG:
                sung: tuple[Note, ...] = ()
            elif excerpt is None:
                sung = sung_melody(rng, key, own, voice, section.bars, style.metre, lift, home=False)
            else:
                sung = sung_tune(rng, excerpt)
            level = LEVELS[section.name]
            materials[section.name] = Material(
                own, sung, _choice(rng, style.drums[level]), _choice(rng, style.bass[level]),
                _choice(rng, style.comp[level]),
            )  # fmt: skip
        origin = float(section.first_bar * per_bar)
        chords += [replace(span, start=span.start + origin) for span in materials[section.name].chords]
        again = any(earlier.name == section.name for earlier in sections[: sections.index(section)])
        for note in materials[section.name].melody:
            # A chorus has one text, verses have several.
            text = syllable(rng) if again and section.name != "chorus" and note.syllable else note.syllable
            melody.append(replace(note, start=note.start + origin, syllable=text))

    last_bar = float((bars - 1) * per_bar)
    tonic = key.numeral("I" if mode == "major" else "i")
    chords = [span for span in chords if span.start < last_bar] + [ChordSpan(last_bar, float(per_bar), tonic)]
    melody = _settled(melody, last_bar, key, tonic, (voice.low, voice.high))
    parts = {
        "drums": _drums(rng, style, sections, materials, per_bar, last_bar, world.dynamics),
        "bass": _bass(rng, sections, materials, chords, per_bar, last_bar, world.dynamics),
        "comp": _comp(rng, sections, materials, chords, per_bar, last_bar, world),
        "pad": _pad(rng, sections, chords, per_bar, world) if band.pad is not None else (),
    }
    return Piece(
        seed, key, tempo, style.metre, bars, band, voice, sections, tuple(chords),
        tuple(_swung(note, style) for note in melody),
        {part: tuple(_swung(note, style) for note in sorted(notes, key=lambda note: note.start))
         for part, notes in parts.items()},
        world.onset_grid, style.name, "" if tune is None else tune.name,
    )  # fmt: skip


def _styles(world: World) -> list[Style]:
    unknown = [name for name in world.styles if name not in STYLES] + [
        name for name in world.forms if name not in FORMS
    ]
    if unknown:
        raise ValueError(f"there is no style or form {unknown[0]!r}: styles are {', '.join(STYLES)}; "
                         f"forms are {', '.join(FORMS)}")  # fmt: skip
    return [STYLES[name] for name in world.styles]


def _sections(form: str) -> tuple[Section, ...]:
    sections: list[Section] = []
    bar = 0
    for text in form.split(", "):
        name, bars = text.split()
        sections.append(Section(name, bar, int(bars)))
        bar += int(bars)
    return tuple(sections)


def _chords(rng: Generator, key: Key, style: Style, loop: str, bars: int, world: World) -> tuple[ChordSpan, ...]:
    """The loop, over and over. A bar may hold two chords, the first the longer one."""
    per_bar = style.metre.beats_per_bar
    cells = loop.split()
    coloured = [rng.random() < world.sevenths for _ in cells]
    if world.borrowed:
        lent = LENT[key.mode]
        cells = [lent[cell] if cell in lent and rng.random() < world.borrowed * BORROWABLE else cell for cell in cells]
    spans = []
    for bar in range(bars):
        cell = bar % len(cells)
        found = [key.numeral(numeral) for numeral in cells[cell].split(",")]
        if coloured[cell]:
            found = [key.with_seventh(chord) for chord in found]
        pulse = style.metre.pulse
        first = per_bar if len(found) == 1 else pulse * -(-per_bar // (2 * pulse))
        spans.append(ChordSpan(float(bar * per_bar), float(first), found[0]))
        if len(found) == 2:
            spans.append(ChordSpan(bar * per_bar + first, per_bar - first, found[1]))
    return tuple(spans)


def _tune(seed: int, world: World, style: Style, modes: Sequence[str], voice: Voice) -> Tune | None:
    """The tune that the song of that seed has, if it has one. A blues keeps its chords, and so its own melodies."""
    rng = np.random.default_rng([seed, 11])  # its own: songs without a tune are as they were before there were any
    if rng.random() >= world.tunes or "blues" in style.forms:
        return None
    return draw_tune(rng, purpose(seed), style.metre, modes, (voice.low, voice.high), world.tonics)


def _excerpt(tune: Tune, section: str, bars: int) -> Tune:
    """What a section has of it: verses its beginning, others its second half."""
    return tune.excerpt(0 if section == "verse" else tune.bars // 2 // 4 * 4, bars)


def _tune_chords(rng: Generator, tune: Tune, world: World) -> tuple[ChordSpan, ...]:
    """Its chords. Those that were found to its melody alone take sevenths as others do."""
    spans = harmonise(tune)
    if tune.below:
        return spans
    return tuple(
        replace(span, chord=tune.key.with_seventh(span.chord)) if rng.random() < world.sevenths else span
        for span in spans
    )


def _settled(melody: list[Note], last_bar: float, key: Key, tonic: Chord, compass: tuple[int, int]) -> list[Note]:
    """The melody with its notes in the last bar on the last chord; where the song ends sung, it ends on the tonic."""
    settled = []
    for note in melody:
        if note.start >= last_bar:
            near = pitches_in(tonic.pitch_classes, *compass)
            note = replace(note, pitch=min(near, key=lambda pitch: abs(pitch - note.pitch)))
        settled.append(note)
    if settled and settled[-1].start + settled[-1].length > last_bar - 2:
        end = settled[-1]
        near = pitches_in((key.tonic,), *compass)
        settled[-1] = replace(end, pitch=min(near, key=lambda pitch: abs(pitch - end.pitch)))
    return settled


def read_figure(figure: str) -> list[tuple[float, float, str]]:
    """(beat, length, symbol) of a figure: a character a sixteenth, "-" holds, "." rests, blanks only part."""
    steps = figure.replace(" ", "")
    notes = []
    for step, symbol in enumerate(steps):
        if symbol not in "-.":
            held = len(steps[step + 1 :]) - len(steps[step + 1 :].lstrip("-"))
            notes.append((step * STEP, (1 + held) * STEP, symbol))
    return notes


def _unrolled(figure: str, section: Section, per_bar: int, last_bar: float) -> list[tuple[float, float, str]]:
    """The figure over and over through a section, up to the song's last bar."""
    length = len(figure.replace(" ", "")) * STEP
    begin, end = section.first_bar * per_bar, min(last_bar, (section.first_bar + section.bars) * per_bar)
    notes = []
    origin = float(begin)
    while origin < end:
        notes += [(origin + beat, held, symbol) for beat, held, symbol in read_figure(figure) if origin + beat < end]
        origin += length
    return notes


def _drums(
    rng: Generator, style: Style, sections: Sequence[Section], materials: dict[str, Material], per_bar: int,
    last_bar: float, dynamics: float,
) -> list[Note]:  # fmt: skip
    """The groove of each section, a fill at its end where the style has them, a crash where the band comes in full."""
    notes: list[Note] = []
    for index, section in enumerate(sections):
        begin, end = float(section.first_bar * per_bar), float((section.first_bar + section.bars) * per_bar)
        fill = end - 1 if style.fills and index + 1 < len(sections) else end
        crash = style.fills and LEVELS[section.name] == "full"
        for drum, figure in materials[section.name].groove.items():
            for beat, _, symbol in _unrolled(figure, section, per_bar, last_bar):
                if beat < fill and not (crash and beat == begin and drum in {"hat", "ride"}):
                    notes.append(hit(rng, dynamics, beat, DRUMS[drum], VELOCITIES[symbol]))
        if crash:
            notes.append(hit(rng, dynamics, begin, CRASH, 98))
        if fill < end:
            notes += drum_fill(rng, dynamics, fill, 1)
    if style.fills:
        notes.append(hit(rng, dynamics, last_bar, CRASH, 96))
    notes.append(hit(rng, dynamics, last_bar, KICK, 96))
    return notes


def _bass(
    rng: Generator, sections: Sequence[Section], materials: dict[str, Material], chords: Sequence[ChordSpan],
    per_bar: int, last_bar: float, dynamics: float,
) -> list[Note]:  # fmt: skip
    """The figure on the chords of the moment. The first note over each chord is its root."""
    written = [
        note for section in sections for note in _unrolled(materials[section.name].bass, section, per_bar, last_bar)
    ]
    written.append((last_bar, float(per_bar), "R"))
    notes: list[Note] = []
    root = 36
    for index, span in enumerate(chords):
        end = span.start + span.length
        root = nearest_bass(span.chord.root, root, BASS_HIGH - 7)
        following = chords[(index + 1) % len(chords)].chord.root
        own = [note for note in written if span.start <= note[0] < end]
        if not own:
            own = [(span.start, span.length, "R")]
        for position, (beat, length, symbol) in enumerate(own):
            pitch = root if position == 0 else _bass_pitch(symbol, span.chord, root, following)
            velocity = 98 if beat == span.start else 86
            notes.append(Note(beat, 0.95 * min(length, end - beat), pitch, human(rng, dynamics, velocity)))
    return notes


def _bass_pitch(symbol: str, chord: Chord, root: int, following: int) -> int:
    """R root, 3 third, 5 fifth, 7 seventh or else octave, 8 octave, a: a semitone below what comes next."""
    if symbol == "a":
        return nearest_bass((following - 1) % 12, root, BASS_HIGH)
    classes = chord.pitch_classes
    above = {"R": root, "8": root + 12, "7": root + 12}
    above |= {name: root + (pitch - chord.root) % 12 for name, pitch in zip("357", classes[1:], strict=False)}
    return above[symbol] if above[symbol] <= BASS_HIGH else above[symbol] - 12


def _comp(
    rng: Generator, sections: Sequence[Section], materials: dict[str, Material], chords: Sequence[ChordSpan],
    per_bar: int, last_bar: float, world: World,
) -> list[Note]:  # fmt: skip
    """The figure, as whole chords (x, X) or single voices (digits, from the lowest), each chord led from the last."""
    written = [
        note for section in sections for note in _unrolled(materials[section.name].comp, section, per_bar, last_bar)
    ]
    written.append((last_bar, float(per_bar), "X"))
    notes: list[Note] = []
    voicing: tuple[int, ...] = ()
    for span in chords:
        end = span.start + span.length
        voicing = lead(voicing if world.led else (), span.chord, COMP_LOW, COMP_HIGH)
        for beat, length, symbol in written:
            if span.start <= beat < end:
                pitches = (voicing[int(symbol) % len(voicing)],) if symbol.isdigit() else voicing
                meant = 90 if symbol == "X" else 78
                sounding = 0.95 * min(length, end - beat)
                notes += [Note(beat, sounding, pitch, human(rng, world.dynamics, meant)) for pitch in pitches]
    return notes


def _pad(
    rng: Generator, sections: Sequence[Section], chords: Sequence[ChordSpan], per_bar: int, world: World
) -> list[Note]:
    """Held chords wherever the band is full or nearly alone; verses do without."""
    notes: list[Note] = []
    voicing: tuple[int, ...] = ()
    for span in chords:
        section = next(each for each in reversed(sections) if each.first_bar * per_bar <= span.start)
        if LEVELS[section.name] == "usual":
            continue
        voicing = lead(voicing if world.led else (), span.chord, PAD_LOW, PAD_HIGH)
        notes += [Note(span.start, 0.98 * span.length, pitch, human(rng, world.dynamics, 72)) for pitch in voicing]
    return notes


def _swung(note: Note, style: Style) -> Note:
    """The note with the second halves of the style's swung units late."""

    if style.swing == 0.5:
        return note

    def late(beat: float) -> float:
        unit = style.swung_beats
        whole, part = divmod(beat / unit, 1.0)
        moved = part * 2 * style.swing if part < 0.5 else style.swing + (part - 0.5) * 2 * (1 - style.swing)
        return float(unit * (whole + moved))

    start = late(note.start)
    return replace(note, start=start, length=late(note.start + note.length) - start)


def _choice(rng: Generator, choices: Sequence[Drawn]) -> Drawn:
    return choices[int(rng.integers(len(choices)))]
