"""How a separator does on real music: people who sing over real bands, and real rock without a voice.

    python bench/real_music.py --audio ../audio -o real
    python bench/real_music.py --audio ../audio -o real --pack stems --beside spleeter-2stems --no-visqol
    python bench/real_music.py -o real --pop song.mp3 --separator spleeter-2stems     # and a song that nobody has apart
    python bench/real_music.py -o real --mge mge --beside spleeter-4stems       # and what is asked for by name

It writes songs from the recordings of BACKLINE_AUDIO, and prepares two corpora of them by `backline data prepare`:

- OUT/sung: both singers, at VOICE_DBFS, each over what all but the guitar plays in a rock song, at BAND_DBFS;
- OUT/rock: rock songs, the guitar and the rest apart. Nobody sings in them, so `vocals` is wrong whatever it holds.
- OUT/pop: with --pop, songs as they are sold. What --separator finds in them stands for the truth, and is none.

With --mge, its pack is asked for the voice and the guitar by name as well, beside all separators that are given
(`backline evaluate extraction`; OUT/sung-asked.json, OUT/rock-asked.json). A separator's guitar is its `other`.

The rock songs are those of Debian's fretsonfire-songs-sectoid where it is installed, whole, else the half minute of one
that lies among the recordings. Further arguments go to `backline evaluate separation`. For measuring only, once a
release: twenty seconds of singing are no set to tune on.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile

from backline.evaluation.voices import BAND_DBFS, VOICE_DBFS, at_level, recorded
from backline.music.stems import SAMPLE_RATE

ROCK = Path("/usr/share/games/fretsonfire/data/songs/sectoid")
LICENCE = {"rock": "sectoid: MIT-style", "sung": "Vocadito: CC BY 4.0; sectoid: MIT-style"}
SINGERS = ("singing_man", "singing_woman")
BEGIN = 20.0  # seconds of a rock song after which somebody sings over it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, default=os.environ.get("BACKLINE_AUDIO"), help="folder of recordings")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for songs, corpora and figures")
    parser.add_argument("--pack", default="stems", help="what is judged")
    parser.add_argument("--mge", metavar="PACK", help="a pack that is asked for what it is to play, judged as well")
    parser.add_argument("--beside", action="append", default=[], metavar="PACK", help="another pack that separates")
    parser.add_argument("--pop", type=Path, action="append", default=[], help="a song of which nobody has the stems")
    parser.add_argument(
        "--separator", default="spleeter-2stems", help="whose stems of --pop the pack's are held against"
    )
    parser.add_argument("--packs", type=Path, help="a further folder of packs")
    known, more = parser.parse_known_args()
    if known.audio is None:
        parser.error("say where the recordings are: --audio, or BACKLINE_AUDIO")
    packs = ["--packs", known.packs] if known.packs else []
    others = [word for name in known.beside for word in ("--beside", name)]
    rocks = rock_songs(known.audio)
    for kind, songs in {"sung": sung(known.audio, rocks), "rock": rocks}.items():
        for title, stems in songs.items():
            folder = known.output / "songs" / kind / title
            folder.mkdir(parents=True, exist_ok=True)
            for label, sound in stems.items():
                soundfile.write(folder / f"{label}.wav", sound.T, SAMPLE_RATE, "FLOAT")
        prepare(known.output / kind, known.output / "songs" / kind, "--licence", LICENCE[kind])
        evaluate(known.output / kind, known.pack, *packs, *others, *more)
        if known.mge:
            ask(known.output / kind, known.mge, "--beside", known.pack, *packs, *others)
    if known.pop:
        prepare(known.output / "pop", *known.pop, "--separator", known.separator, *packs)
        evaluate(known.output / "pop", known.pack, *packs, *others, *more)


def prepare(corpus: Path, *arguments: object) -> None:
    command("data", "prepare", *arguments, "-o", corpus, "--split", "test")


def evaluate(corpus: Path, pack: str, *arguments: object) -> None:
    figures = corpus.with_suffix(".json")
    command("evaluate", "separation", pack, "--songs", corpus, "--pieces", 100, "-o", figures, *arguments)


def ask(corpus: Path, pack: str, *arguments: object) -> None:
    figures = corpus.with_name(f"{corpus.name}-asked.json")
    command("evaluate", "extraction", pack, "--songs", corpus, "--pieces", 100, "-o", figures, *arguments)


def rock_songs(audio: Path) -> Mapping[str, Mapping[str, np.ndarray]]:
    """Guitar and rest [channel, sample] of every song."""
    if ROCK.is_dir():
        folders = sorted(folder for folder in ROCK.iterdir() if folder.is_dir())
        return {each.name: {"guitar": read(each / "guitar.ogg"), "rest": read(each / "song.ogg")} for each in folders}
    return {"rock": {"guitar": read(audio / "rock_guitar.ogg"), "rest": read(audio / "rock_rest.ogg")}}


def sung(audio: Path, rocks: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    """Every singer over every band."""
    found = {}
    for title, stems in rocks.items():
        rest = stems["rest"].mean(axis=0, dtype=np.float32)
        for singer in SINGERS:
            voice = recorded(audio, singer)
            if voice is None:
                raise SystemExit(f"{audio} has no {singer}: give the folder of the tests' recordings")
            begin = int(min(BEGIN * SAMPLE_RATE, max(0, len(rest) - len(voice))))
            band = rest[begin : begin + len(voice)]
            found[f"{singer} over {title}"] = {
                "vocals": at_level(voice[: len(band)], VOICE_DBFS)[np.newaxis],
                "rest": at_level(band, BAND_DBFS)[np.newaxis],
            }
    return found


def read(path: Path) -> np.ndarray:
    """[channel, sample] at SAMPLE_RATE."""
    import soxr

    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return soxr.resample(audio, rate, SAMPLE_RATE).astype(np.float32).T


def command(*arguments: object) -> None:
    """Says and runs a command of Backline."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ backline {shlex.join(words)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "backline.cli.main", *words], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
