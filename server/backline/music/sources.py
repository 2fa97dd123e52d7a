"""What a world is made of besides our own code: packages, what is in them, and the licence of that.

A pack's card lists them. No sample, SoundFont or recording becomes part of a pack: songs are rendered, and packs learn
from these.
"""

from __future__ import annotations

from dataclasses import dataclass

from backline.music.fluidsynth import missing as fluidsynth_missing
from backline.music.kits import KitsMissing, kits, read_drums
from backline.music.production import FONTS, pedalboard_package
from backline.music.prompts import check_prompts, prompters
from backline.music.sinsy import missing as sinsy_missing
from backline.music.tunes import COLLECTIONS
from backline.music.tunes import missing as tunes_missing
from backline.music.vocoder import missing as voices_missing
from backline.music.world import World


@dataclass(frozen=True)
class Source:
    """One thing that a world uses."""

    package: str
    what: str
    license: str

    def __str__(self) -> str:
        return f"{self.what} of {self.package} ({self.license})"


def sources(world: World) -> tuple[Source, ...]:
    """Everything that songs to learn from may hold in a world; kits for judging are not among it.

    Raises:
        KitsMissing: a kit is not installed, whose own file says its licence.
    """
    found = [Source("fluid-soundfont-gm", "SoundFont FluidR3", "MIT")]
    if world.people:
        what = "syllables by native speakers of 14 languages, sung by the vocoder WORLD (pyworld, MIT),"
        found.append(Source("klettres-data", what, "GPL-2+"))
        if world.cast.sinsy:
            found.append(Source("pysinsy", "Sinsy's singer", "code MIT, voice nitech f001 CC BY 3.0"))
        if world.cast.prompts:
            for who in prompters("training"):
                found.append(Source(who.package, f"sentences that {who.name} speaks", who.license))
    if world.tunes:
        found += [Source("music21", collection.name, collection.license) for collection in COLLECTIONS]
    if world.produced:
        found.append(Source(FONTS[0][1], "SoundFont MuseScore General", "MIT, parts CC0 and public domain"))
        for kit in kits("training"):
            license_text = kit.license if kit.is_font else read_drums(kit.located()).license
            found.append(Source(kit.package, f"drum kit {kit.name}", license_text))
        found.append(Source("pedalboard", "amplifiers and compressors", "GPL-3, runs while songs are composed"))
    return tuple(found)


def licences(world: World) -> str:
    """One line for a pack's card.

    Raises:
        KitsMissing: as `sources`.
    """
    return "; ".join(str(source) for source in sources(world))


def missing(world: World) -> str | None:
    """What has to be installed before the world's songs can be made; None if nothing."""
    reasons = [fluidsynth_missing()]
    if world.people:
        reasons.append(voices_missing())
        reasons.append(sinsy_missing() if world.cast.sinsy else None)
        if world.cast.prompts:
            try:
                check_prompts()
            except KitsMissing as error:
                reasons.append(str(error))
    if world.tunes:
        reasons.append(tunes_missing())
    if world.produced:
        try:
            pedalboard_package()
            sources(world)
            for purpose in ("validation", "test"):
                for kit in kits(purpose):
                    kit.located()
        except KitsMissing as error:
            reasons.append(str(error))
    told = [reason for reason in reasons if reason]
    return "; ".join(told) or None
