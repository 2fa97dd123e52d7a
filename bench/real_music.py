"""How a separator does on real music: people who sing over real bands, and real rock without a voice.

    python bench/real_music.py --audio ../audio -o real
    python bench/real_music.py --audio ../audio -o real --pack stems --beside spleeter --no-visqol

It writes songs from the recordings of BACKLINE_AUDIO, and prepares two corpora of them by `backline data prepare`:

- OUT/sung: both singers, at VOICE_DBFS, each over what all but the guitar plays in a rock song, at BAND_DBFS;
- OUT/rock: rock songs, the guitar and the rest apart. Nobody sings in them, so `vocals` is wrong whatever it holds.

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
    known, more = parser.parse_known_args()
    if known.audio is None:
        parser.error("say where the recordings are: --audio, or BACKLINE_AUDIO")
    rocks = rock_songs(known.audio)
    for kind, songs in {"sung": sung(known.audio, rocks), "rock": rocks}.items():
        for title, stems in songs.items():
            folder = known.output / "songs" / kind / title
            folder.mkdir(parents=True, exist_ok=True)
            for label, sound in stems.items():
                soundfile.write(folder / f"{label}.wav", sound.T, SAMPLE_RATE, "FLOAT")
        corpus = known.output / kind
        command(
            "data",
            "prepare",
            known.output / "songs" / kind,
            "-o",
            corpus,
            "--split",
            "test",
            "--licence",
            LICENCE[kind],
        )
        figures = known.output / f"{kind}.json"
        command("evaluate", "separation", known.pack, "--songs", corpus, "--pieces", 100, "-o", figures, *more)


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
