"""`backline music compose`: a folder for each song, whose labels are true of its audio."""

import json
from pathlib import Path

import pytest
import soundfile

from backline.music import fluidsynth
from tests.cli.test_commands import Backline

needs_fluidsynth = pytest.mark.skipif(fluidsynth.missing() is not None, reason=str(fluidsynth.missing()))


@needs_fluidsynth
def test_each_seed_gets_a_folder_with_audio_and_labels(backline: Backline, tmp_path: Path) -> None:
    said = backline(
        "music", "compose", "-o", tmp_path, "--songs", 2, "--seed", 5, "--world", "pop", "--style", "pop",
        "--rate", 24_000,
    )  # fmt: skip
    assert said.code == 0, said.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pop-5", "pop-6"]
    labels = json.loads((tmp_path / "pop-6" / "labels.json").read_text())
    assert (labels["seed"], labels["style"]) == (6, "pop")
    assert labels["key"] in said.out
    facts = soundfile.info(tmp_path / "pop-6" / "mix.flac")
    assert facts.samplerate == 24_000
    assert facts.duration == pytest.approx(labels["seconds"], abs=0.001)


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ([], "--play"),
        (["-o", "songs", "--world", "flat"], "narrow, trio, band, pop, wide"),
        (["-o", "songs", "--style", "polka"], "bossa nova"),
        (["-o", "songs", "--world", "narrow", "--style", "pop"], "--world wide"),
    ],
)
def test_what_cannot_be_composed_is_refused_with_the_remedy(
    backline: Backline, arguments: list[str], remedy: str
) -> None:
    said = backline("music", "compose", *arguments)
    assert said.code == 2
    assert remedy in " ".join(said.err.split())
