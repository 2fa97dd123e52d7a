"""`backline tokens`: a song becomes a file of tokens, and the file a song again; what does not fit is refused."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from backline.models.stems.load import tiny_random as tiny_stems
from backline.packs.pack import write_pack
from backline.service.server import start_server
from backline_client import TokenReader
from tests.cli.conftest import Typed
from tests.cli.test_commands import Backline
from tests.support.dual_track import HOP, RATE, dual_track_packs, levels, tokens_of
from tests.support.toy_duo_pack import RATE as DUO_RATE
from tests.support.toy_duo_pack import song, toy_pack

WITHIN = 2 / 32_767  # a level that lies between two tokens


@pytest.fixture
def here(backline: Backline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Typed]]:
    """Runs a command with a server that has the packs `toy` and `other`, and `apart`, which takes a mix apart."""
    folder = dual_track_packs(tmp_path / "packs", monkeypatch, "toy", "other")
    config, tensors = tiny_stems()
    write_pack(folder / "apart", {**config, "name": "apart"}, tensors)
    with start_server(packs=[folder], device="cpu") as server:
        yield lambda *arguments: backline(*arguments, "--server", server.address)


def codes_of(path: Path) -> np.ndarray:
    """[frame, track]"""
    with TokenReader(path) as file:
        return np.concatenate(list(file.blocks()))


def write(folder: Path, frames: int = 40, cut: int = 0) -> np.ndarray:
    """A song's tracks [track, sample] in two files; the band's is `cut` samples shorter."""
    tracks = levels(1, frames)
    soundfile.write(folder / "voice.wav", tracks[0], RATE, subtype="FLOAT")
    soundfile.write(folder / "band.wav", tracks[1][: tracks.shape[1] - cut], RATE, subtype="FLOAT")
    return tracks


def test_a_song_comes_back_as_long_as_it_was(here: Callable[..., Typed], backline: Backline, tmp_path: Path) -> None:
    tracks = write(tmp_path, 40)[:, : 40 * HOP - 100]
    for name, track in zip(("voice", "band"), tracks, strict=True):
        soundfile.write(tmp_path / f"{name}.wav", track, RATE, subtype="FLOAT")
    duo = tmp_path / "song.duo"
    said = here("tokens", "encode", tmp_path / "voice.wav", tmp_path / "band.wav", "-o", duo, "-p", "toy")
    assert said.code == 0, said.err
    assert "1.6 s at 24000 Hz" in said.out
    with TokenReader(duo) as file:
        assert file.header.samples == tracks.shape[1]
    np.testing.assert_array_equal(codes_of(duo)[:39], tokens_of(levels(1, 40))[:39])
    soundfile.write(tmp_path / "back-vocals.wav", tracks[0], RATE)  # an older take, which is replaced
    said = here("tokens", "decode", duo, "-o", tmp_path / "back.wav")
    assert said.code == 0, said.err
    for track, name in zip(tracks, ("vocals", "accompaniment"), strict=True):
        back, rate = soundfile.read(tmp_path / f"back-{name}.wav", dtype="float32")
        assert (rate, len(back)) == (RATE, tracks.shape[1])
        np.testing.assert_allclose(back[: 39 * HOP], track[: 39 * HOP], atol=WITHIN)
    said = backline("tokens", "info", duo)
    assert said.code == 0, said.err
    assert "0.75 kbit/s" in said.out
    assert "made by toy" in said.out
    assert "vocals: 32768 entries" in said.out


def test_a_track_that_is_shorter_or_left_out_is_silent(here: Callable[..., Typed], tmp_path: Path) -> None:
    tracks = write(tmp_path, 30, cut=10 * HOP)
    silence = tokens_of(np.zeros((2, HOP), np.float32))[0, 1]
    for files, heard in ((("voice", "band"), 20), (("voice",), 0)):
        duo = tmp_path / f"{len(files)}.duo"
        said = here("tokens", "encode", *(tmp_path / f"{name}.wav" for name in files), "-o", duo, "-p", "toy")
        assert said.code == 0, said.err
        codes = codes_of(duo)[:30]
        expected = tokens_of(tracks)
        expected[heard:, 1] = silence
        np.testing.assert_array_equal(codes, expected)


def test_a_mix_is_taken_apart_on_the_way(here: Callable[..., Typed], tmp_path: Path) -> None:
    mix = levels(2, 25)
    soundfile.write(tmp_path / "mix.wav", mix.T, RATE, subtype="FLOAT")
    said = here("tokens", "encode", tmp_path / "mix.wav", "--split", "halves", "-o", tmp_path / "s.duo", "-p", "toy")
    assert said.code == 1
    assert "there is no pack 'halves'" in said.err
    said = here(
        "tokens", "encode", tmp_path / "mix.wav", "--split", "passthrough", "-o", tmp_path / "s.duo", "-p", "toy"
    )
    assert said.code == 1
    assert "passthrough plays main, and toy hears vocals, accompaniment" in said.err
    assert not (tmp_path / "s.duo").exists()


def test_the_family_of_two_tracks_makes_and_reads_them(backline: Backline, tmp_path: Path) -> None:
    config, tensors = toy_pack()
    write_pack(tmp_path / "packs" / "duo", {**config, "name": "duo"}, tensors)
    for name, track in zip(("voice", "band"), song(1.9), strict=True):
        soundfile.write(tmp_path / f"{name}.wav", track, DUO_RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "both.wav", song(1.9).T, DUO_RATE, subtype="FLOAT")
    with start_server(packs=[tmp_path / "packs"], device="cpu") as server:
        here = ("-p", "duo", "--server", server.address)
        duo, sounds = tmp_path / "song.duo", ("--seed", 5, "--server", server.address)
        said = backline("tokens", "encode", tmp_path / "voice.wav", tmp_path / "band.wav", "-o", duo, *here)
        assert said.code == 0, said.err
        said = backline("tokens", "decode", duo, "-o", tmp_path / "back.wav", *sounds)
        assert said.code == 0, said.err
        both = ("--inputs", "vocals:1,accompaniment:1", "--task", "resynthesis", "-p", "duo")
        said = backline("render", tmp_path / "both.wav", "-o", tmp_path / "at-once.wav", *both, *sounds)
        assert said.code == 0, said.err
    assert len(np.unique(codes_of(duo)[:, 0])) > 3
    for track in ("vocals", "accompaniment"):
        back, rate = soundfile.read(tmp_path / f"back-{track}.wav")
        at_once, _ = soundfile.read(tmp_path / f"at-once-{track}.wav")
        assert (rate, back.shape) == (DUO_RATE, at_once.shape)
        assert np.abs(back).max() > 0
        told = int(1.5 * DUO_RATE)  # what comes near the end hears what lies beyond it
        np.testing.assert_allclose(back[:told], at_once[:told], atol=1e-6)


def test_a_mix_is_the_tracks_that_a_pack_takes_apart(here: Callable[..., Typed], tmp_path: Path) -> None:
    mix = 0.1 * np.random.default_rng(3).standard_normal((2 * RATE, 2))
    soundfile.write(tmp_path / "mix.wav", mix, RATE, subtype="FLOAT")
    duo, alone = tmp_path / "song.duo", tmp_path / "alone.duo"
    said = here("tokens", "encode", tmp_path / "mix.wav", "--split", "apart", "-o", duo, "-p", "toy")
    assert said.code == 0, said.err
    said = here("render", tmp_path / "mix.wav", "-p", "apart", "--seed", 0, "-o", f"{tmp_path / 'stems'}/")
    assert said.code == 0, said.err
    parts = {path.stem: soundfile.read(path, dtype="float32")[0] for path in (tmp_path / "stems").iterdir()}
    soundfile.write(tmp_path / "voice.wav", parts.pop("vocals"), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "band.wav", np.sum(list(parts.values()), axis=0), RATE, subtype="FLOAT")
    said = here("tokens", "encode", tmp_path / "voice.wav", tmp_path / "band.wav", "-o", alone, "-p", "toy")
    assert said.code == 0, said.err
    np.testing.assert_allclose(codes_of(duo), codes_of(alone), atol=1)  # sums in another order


def test_files_that_fit_no_song_are_refused(here: Callable[..., Typed], backline: Backline, tmp_path: Path) -> None:
    write(tmp_path)
    duo = tmp_path / "song.duo"
    assert here("tokens", "encode", tmp_path / "voice.wav", "-o", duo, "-p", "toy").code == 0
    whole = duo.read_bytes()

    def refused(told: str, *arguments: object, run: Callable[..., Typed] = here) -> None:
        said = run("tokens", *arguments)
        assert said.code == 1, said.err
        assert told in said.err
        assert "Traceback" not in said.err
        assert not (tmp_path / "out.wav").exists()
        assert not list(tmp_path.glob(".*part*"))

    refused("use a pack with that one", "decode", duo, "-o", tmp_path / "out.wav", "-p", "other")
    refused("'passthrough' takes no tokens", "decode", duo, "-o", tmp_path / "out.wav", "-p", "passthrough")
    refused("gives no tokens", "encode", tmp_path / "voice.wav", "-o", tmp_path / "n.duo", "-p", "passthrough")
    refused(
        "hears vocals, accompaniment", "encode", *[tmp_path / "voice.wav"] * 3, "-o", tmp_path / "n.duo", "-p", "toy"
    )
    refused("would be lost", "encode", tmp_path / "voice.wav", "-o", tmp_path / "voice.wav", "-p", "toy")
    refused("no token file", "decode", tmp_path / "voice.wav", "-o", tmp_path / "out.wav")
    duo.write_bytes(whole[:-9])
    refused("was cut off", "decode", duo, "-o", tmp_path / "out.wav")
    refused("was cut off", "info", duo, run=backline)
    duo.write_bytes(whole.replace(b"toy", b"top"))
    refused("damaged", "decode", duo, "-o", tmp_path / "out.wav")
    refused("No such file", "info", tmp_path / "none.duo", run=backline)


@pytest.mark.parametrize("rate", [8_000, 44_100, 384_000])
def test_any_rate_gives_frames_for_all_of_the_song(here: Callable[..., Typed], tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "voice.wav", np.full(rate + 1, 0.25), rate)
    duo = tmp_path / "song.duo"
    said = here("tokens", "encode", tmp_path / "voice.wav", "-o", duo, "-p", "toy")
    assert said.code == 0, said.err
    with TokenReader(duo) as file:
        header = file.header
    assert header.frames >= header.frames_of(header.samples) == 26
    assert header.seconds == pytest.approx(1, abs=0.01)
    said = here("tokens", "decode", duo, "-o", tmp_path / "back.wav")
    assert said.code == 0, said.err
    back, served = soundfile.read(tmp_path / "back-vocals.wav")
    assert (served, len(back)) == (header.sample_rate, header.samples)
    np.testing.assert_allclose(back[served // 4 : served // 2], 0.25, atol=1e-3)


def test_what_is_sung_live_is_recorded_and_heard_from_its_tokens(here: Callable[..., Typed], tmp_path: Path) -> None:
    tracks = write(tmp_path, 50)
    soundfile.write(tmp_path / "both.wav", tracks.T, RATE, subtype="FLOAT")
    duo = tmp_path / "take.duo"
    playing = ("-p", "toy", "--jitter-buffer", 1.0)
    both = ("--inputs", "vocals:1,accompaniment:1", "--task", "relay", "--output", f"{tmp_path / 'sung'}/")
    said = here("live", "--input", tmp_path / "both.wav", "--tokens", duo, *both, *playing)
    assert said.code == 0, said.err
    assert f"recorded {duo}" in said.out
    np.testing.assert_array_equal(codes_of(duo)[:50], tokens_of(tracks))
    said = here("live", "--input", duo, "--output", f"{tmp_path / 'heard'}/", *playing)
    assert said.code == 0, said.err
    for track, name in zip(tracks, ("vocals", "accompaniment"), strict=True):
        heard, rate = soundfile.read(tmp_path / "heard" / f"{name}.wav", dtype="float32")
        assert rate == RATE
        np.testing.assert_allclose(heard[: len(track)], track, atol=WITHIN)
    said = here("live", "--input", duo, "--output", tmp_path / "n.wav", "-p", "passthrough")
    assert said.code == 1
    assert "'passthrough' takes no tokens: use 'toy'" in said.err
