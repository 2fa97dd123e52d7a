"""A lab's whole way at toy size: songs on disk, a corpus, k-means, three stages, a pack that plays and is measured."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from backline.cli.main import app
from backline.codecs.convnext import ConvNeXtCodec, ConvNeXtCodecConfig
from backline.corpus.multitrack import voice_and_band
from backline.corpus.songs import Composer
from backline.music.seeds import HELD_OUT_SEED, TEST_SEED
from backline.music.world import TRIO
from backline.packs.pack import write_pack
from tests.support.whisper_model import write_whisper

SPLITS = {"train": [0, 1, 2], "valid": [HELD_OUT_SEED, HELD_OUT_SEED + 1], "test": [TEST_SEED, TEST_SEED + 1]}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Voices and bands of composed songs as files, a Whisper of toy size, and a codec of toy size as a pack."""
    folder = tmp_path_factory.mktemp("lab")
    composer = Composer(TRIO, 24_000)
    for split, seeds in SPLITS.items():
        for number, seed in enumerate(seeds):
            place = folder / "songs" / split / f"song {number}"
            place.mkdir(parents=True)
            for name, sound in zip(
                ("vocals", "instrumental"), voice_and_band(composer.song(seed), 24_000), strict=True
            ):
                soundfile.write(place / f"{name}.flac", 1.5 * sound, 24_000)
    write_whisper(folder / "whisper", positions=1500)
    codec = ConvNeXtCodecConfig(
        codebooks=4, codebook_size=64, latent=16, encoder_width=16, encoder_blocks=1, decoder_width=16, decoder_blocks=1
    )
    torch.manual_seed(0)
    tensors = {f"codec.{name}": tensor.contiguous() for name, tensor in ConvNeXtCodec(codec).state_dict().items()}
    config = {
        "format": 1,
        "name": "toy-codec",
        "version": "1",
        "family": "codec",
        "description": "toy",
        "license": "Apache-2.0",
    }
    write_pack(folder / "packs" / "toy-codec", {**config, "codec": {"kind": "convnext", **vars(codec)}}, tensors)
    return folder


def backline(*words: str | Path) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def test_a_labs_whole_way(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, packs, corpus = lab / "run", lab / "packs", lab / "corpus"
    songs = ("--songs", corpus, "--run", run, "--packs", packs, "--device", "cpu")
    backline("data", "prepare", lab / "songs", "-o", corpus, "--jobs", "1")
    said = backline("train", "kmeans", "--semantics", f"whisper:{lab / 'whisper'}", "--clusters", "24", *songs)
    assert "a stream gives" in said
    monkeypatch.setattr(
        "backline.training.hafm_pack.SIZES", {"toy": {"layers": 1, "width": 32, "heads": 2, "head_width": 16}}
    )
    said = backline(
        "train", "hafm", "--codec", "pack:toy-codec", "--size", "toy", "--steps", "3", "--batch", "2",
        "--accumulate", "1", "--jobs", "1", "-o", packs / "mine", *songs,
    )  # fmt: skip
    assert "pack written" in said
    voice = next((lab / "songs" / "test").glob("*/vocals.flac"))
    playing = ("--pack", "mine", "--packs", packs, "--device", "cpu", "--seed", "1")
    short = lab / "voice.wav"
    soundfile.write(short, soundfile.read(voice, frames=48_000)[0], 24_000)
    for way in ((), ("--clip", "paper"), ("--clip", "sliding")):
        backline("render", short, "-o", lab / "band.wav", *playing, *way)
        band, rate = soundfile.read(lab / "band.wav")
        assert (len(band), rate) == (48_000, 24_000)
        assert np.abs(band).max() > 0
    backline(
        "evaluate", "stages", "mine", "--packs", packs, "--songs", corpus, "--pieces", "2", "-o", lab / "found.json"
    )
    found = json.loads((lab / "found.json").read_text())["rows"]
    assert set(found) == {"semantic", "coarse", "fine", "voice"}
    assert 0 < found["voice"]["tokens as of the whole clip"]["mean"] <= 1
