"""A corpus is made of what lies in folders: every song once, damaged ones named, and the rest of it after a stop."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from backline.corpus.corpus import Corpus
from backline.corpus.layouts import FoundSong, FoundStem, Part, find_songs
from backline.corpus.manifest import SONGS, CorpusError, Source
from backline.corpus.multitrack import four_tracks, mixture
from backline.corpus.prepare import Plan, Summary, drawn_split, prepare
from backline.corpus.separator import Separator, SeparatorPack
from backline.corpus.song import prepare_song
from backline.ffmpeg import NoSound
from backline.models.passthrough import PassthroughConfig, PassthroughStream
from tests.cli.test_commands import write_pack

RATE = 48_000
STEPS = 2 / 2**23
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def noise(seed: int, seconds: float = 1.0, channels: int = 2, rate: int = RATE) -> np.ndarray:
    """[sample, channel] of 16 bits."""
    draw = np.random.default_rng(seed)
    return np.rint(3_000 * draw.standard_normal((round(seconds * rate), channels))) / 2**15


def write(path: Path, audio: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate, subtype=subtype)
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "corpus" / SONGS).mkdir(parents=True)
    return tmp_path / "corpus"


def one(place: Path) -> FoundSong:
    (song,) = find_songs(place)
    return song


# ---- one song ------------------------------------------------------------------------------------------


def test_stems_are_kept_to_the_sample_and_brought_to_one_length(tmp_path: Path, corpus: Path) -> None:
    vocals, drums = noise(1), noise(2, 1.5, channels=1)
    write(tmp_path / "in" / "vocals.wav", vocals)
    write(tmp_path / "in" / "drums.flac", drums)
    made = prepare_song(one(tmp_path / "in"), corpus, None)
    assert [(stem.name, stem.channels, stem.separator) for stem in made.stems] == [("drums", 1, ""), ("vocals", 2, "")]
    assert made.samples == 72_000
    read, _ = soundfile.read(made.folder / "vocals.flac", always_2d=True)
    np.testing.assert_array_equal(read, np.pad(vocals, ((0, 24_000), (0, 0))))
    np.testing.assert_array_equal(soundfile.read(made.folder / "drums.flac", always_2d=True)[0], drums)


def test_other_rates_and_channels_come_to_48_khz_stereo(tmp_path: Path, corpus: Path) -> None:
    surround = noise(1, 1.0, channels=6, rate=44_100)
    write(tmp_path / "surround.wav", surround, 44_100)
    write(tmp_path / "five.wav", noise(2, 1.0, channels=5))
    made = prepare_song(one(tmp_path / "surround.wav"), corpus, None)
    read, _ = soundfile.read(made.folder / "mix.flac", always_2d=True)
    assert read.shape[1] == 2
    left = surround[:, 0] + np.sqrt(0.5) * (surround[:, 2] + surround[:, 4])
    expected = soxr.resample(left, 44_100, RATE)
    assert abs(len(read) - len(expected)) <= 1
    np.testing.assert_allclose(read[: len(expected), 0], expected[: len(read)], atol=1e-3)
    assert prepare_song(one(tmp_path / "five.wav"), corpus, None).stems[0].channels == 1


def test_a_stem_of_several_tracks_is_their_sum(tmp_path: Path, corpus: Path) -> None:
    parts = [write(tmp_path / f"{n}.wav", noise(n, 1 - 0.2 * n, channels=1 + n % 2)) for n in range(3)]
    found = FoundSong("a", Source("a", "0" * 16, 1, 1), None, (FoundStem("keys", tuple(map(Part, parts))),))
    read, _ = soundfile.read(prepare_song(found, corpus, None).folder / "keys.flac", always_2d=True)
    expected = np.zeros((48_000, 2))
    for n in range(3):
        part = noise(n, 1 - 0.2 * n, channels=1 + n % 2)
        expected[: len(part)] += part
    np.testing.assert_allclose(read, expected, atol=STEPS)


def test_a_mix_is_separated_and_its_stems_say_by_what(tmp_path: Path, corpus: Path) -> None:
    audio = noise(1, 2.5)
    write(tmp_path / "song.wav", audio)
    separator = Separator(PassthroughStream(PassthroughConfig(ports=("vocals", "instrumental"))), "pair 1")
    made = prepare_song(one(tmp_path / "song.wav"), corpus, separator)
    assert [(stem.name, stem.separator) for stem in made.stems] == [
        ("mix", ""), ("vocals", "pair 1"), ("instrumental", "pair 1")
    ]  # fmt: skip
    for stem in made.stems:
        np.testing.assert_array_equal(soundfile.read(made.folder / f"{stem.name}.flac", always_2d=True)[0], audio)
    assert prepare_song(one(tmp_path / "song.wav"), corpus, None).stems[0].name == "mix"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"RIFF" + bytes(40), "no audio file|no sound"),
        (None, "damaged"),  # a FLAC whose end is missing
    ],
)
def test_what_cannot_be_read_is_no_song_and_leaves_nothing(
    tmp_path: Path, corpus: Path, data: bytes | None, said: str
) -> None:
    write(tmp_path / "in" / "vocals.flac", noise(1))
    whole = write(tmp_path / "in" / "drums.flac", noise(2)).read_bytes()
    (tmp_path / "in" / "drums.flac").write_bytes(whole[: len(whole) // 2] if data is None else data)
    with pytest.raises(NoSound, match=said):
        prepare_song(one(tmp_path / "in"), corpus, None)
    assert not list((corpus / SONGS).iterdir())


def test_samples_that_are_no_numbers_are_silent(tmp_path: Path, corpus: Path) -> None:
    audio = noise(1)
    audio[100:200] = np.nan
    audio[300] = -np.inf
    write(tmp_path / "song.wav", audio, subtype="FLOAT")
    read, _ = soundfile.read(prepare_song(one(tmp_path / "song.wav"), corpus, None).folder / "mix.flac", always_2d=True)
    assert not read[100:200].any()
    assert not read[300].any()
    np.testing.assert_allclose(read[301:], audio[301:], atol=STEPS)


def test_hours_take_no_more_memory_than_minutes(tmp_path: Path, corpus: Path) -> None:
    import tracemalloc

    def most(seconds: int) -> int:
        write(tmp_path / str(seconds) / "vocals.wav", np.tile(noise(1, 1.0, 1), (seconds, 1)))
        write(tmp_path / str(seconds) / "drums.wav", np.tile(noise(2, 1.0, 1), (seconds, 1)))
        tracemalloc.start()
        prepare_song(one(tmp_path / str(seconds)), corpus, None, voice="voice energy")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert most(90) < most(10) + 500_000  # bytes: a minute of one stem alone would be eleven million


@pytest.mark.hosts
@needs_ffmpeg
def test_a_stem_file_is_read_stream_by_stream(tmp_path: Path, corpus: Path) -> None:
    inputs, maps = [], []
    for number in range(5):
        tone = 0.2 * np.sin(2 * np.pi * 220 * (number + 1) * np.arange(2 * RATE) / RATE)
        inputs += ["-i", str(write(tmp_path / "tones" / f"{number}.wav", np.stack([tone, tone], axis=1)))]
        maps += ["-map", str(number)]
    made = tmp_path / "A - B.stem.mp4"
    subprocess.run(["ffmpeg", "-v", "error", *inputs, *maps, "-c:a", "aac", "-b:a", "256k", made], check=True)
    song = prepare_song(one(made), corpus, None)
    assert [stem.label for stem in song.stems] == ["drums", "bass", "other", "vocals"]
    for number, stem in enumerate(song.stems, start=1):
        read, _ = soundfile.read(song.folder / f"{stem.name}.flac", always_2d=True)
        middle = read[RATE // 2 : 3 * RATE // 2, 0]
        loudest = np.argmax(np.abs(np.fft.rfft(middle))) * RATE / len(middle)
        assert loudest == pytest.approx(220 * (number + 1), abs=2)


def test_without_ffmpeg_a_stem_file_is_told_so(tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    (tmp_path / "a.stem.mp4").write_bytes(b"\0\0\0\x0cftypisom")
    with pytest.raises(NoSound, match="apt install ffmpeg"):
        prepare_song(one(tmp_path / "a.stem.mp4"), corpus, None)


# ---- many songs ----------------------------------------------------------------------------------------

SEEDS = {"One": 20, "Two": 30}


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """Two songs of stems, one of them for tests, three mixes of which two are the same, a silent and a broken one."""
    folder = tmp_path / "music"
    for title, split in (("One", "train"), ("Two", "test")):
        for number, stem in enumerate(("vocals", "drums", "bass", "other")):
            write(folder / split / title / f"{stem}.wav", noise(SEEDS[title] + number, 2.0))
    write(folder / "a.wav", noise(7))
    write(folder / "again" / "the same.flac", noise(7))
    write(folder / "b.mp3", noise(8), subtype="MPEG_LAYER_III")
    write(folder / "silent.wav", np.zeros((RATE, 2)))
    (folder / "broken.flac").write_bytes(b"fLaC" + bytes(100))
    return folder


def titles(summary: Summary) -> list[str]:
    return [song.title for song in summary.manifest.songs]


def test_a_folder_becomes_a_corpus_and_is_done_once(tmp_path: Path, music: Path, corpus: Path) -> None:
    told: list[tuple[int, int]] = []
    plan = Plan(licence="CC0", jobs=2)
    done = prepare([music], corpus, plan, lambda *said: told.append(said[:2]))
    assert titles(done) == ["a", "b", "Two", "One"]
    assert (done.new, done.known, len(done.damaged)) == (4, 0, 1)
    assert done.damaged[0].startswith("music/broken.flac: ")
    reasons = sorted(each.reason.partition(" of ")[0] for each in done.manifest.passed_over)
    assert reasons == ["duplicate", "silence"]
    assert told == [(n, 7) for n in range(1, 8)]
    read = Corpus.open(corpus)
    assert read.manifest == done.manifest
    assert {song.title: song.entry.split for song in read.songs()}.items() >= {"One": "training", "Two": "test"}.items()
    assert {song.entry.licence for song in read.songs()} == {"CC0"}
    (two,) = read.songs("test", wanted=lambda song: song.title == "Two")
    np.testing.assert_allclose(
        four_tracks(two, RATE), [noise(SEEDS["Two"] + n, 2.0).mean(axis=1) for n in range(4)], atol=STEPS
    )
    before = sorted((path.name, path.stat().st_mtime_ns) for path in corpus.rglob("*.flac"))
    again = prepare([music], corpus, plan)
    assert (again.new, again.known, len(again.damaged)) == (0, 6, 1)
    assert again.manifest == done.manifest
    assert sorted((path.name, path.stat().st_mtime_ns) for path in corpus.rglob("*.flac")) == before


def test_what_has_changed_is_prepared_again(tmp_path: Path, corpus: Path) -> None:
    path = write(tmp_path / "in" / "a.wav", noise(1))
    old = prepare([tmp_path / "in"], corpus, Plan()).manifest.songs[0]
    write(path, noise(2, 1.5))
    done = prepare([tmp_path / "in"], corpus, Plan())
    (song,) = Corpus.open(corpus).songs()
    assert (done.new, song.entry.samples) == (1, 72_000)
    assert [folder.name for folder in (corpus / SONGS).iterdir()] == [song.entry.id] != [old.id]


def test_songs_of_one_name_from_two_folders_are_two(tmp_path: Path, corpus: Path) -> None:
    for number in (1, 2):
        write(tmp_path / str(number) / "in" / "a.wav", noise(number))
        prepare([tmp_path / str(number) / "in"], corpus, Plan())
    assert len(Corpus.open(corpus).songs()) == 2


def test_a_song_is_separated_by_a_pack(tmp_path: Path, corpus: Path) -> None:
    folder = write_pack(tmp_path / "packs")
    write(tmp_path / "in" / "a.wav", noise(1))
    pack = SeparatorPack(folder / "pair", "pair 1")
    prepare([tmp_path / "in"], corpus, Plan(separator=pack))
    (song,) = Corpus.open(corpus).songs()
    assert list(song.labels.values()) == ["mix", "drums", "bass"]
    assert {stem.separator for stem in song.entry.stems} == {"", "pair 1"}
    np.testing.assert_array_equal(mixture(song, RATE), song.read("drums", RATE))


def test_a_split_is_drawn_by_the_sound_alone() -> None:
    hashes = [f"{n:064x}" for n in range(2_000)]
    drawn = [drawn_split(each, Plan(validation=0.1, test=0.2)) for each in hashes]
    assert 0.16 < drawn.count("test") / 2_000 < 0.24
    assert 0.07 < drawn.count("validation") / 2_000 < 0.13
    assert drawn != [drawn_split(each, Plan(validation=0.1, test=0.2, seed=1)) for each in hashes]
    assert {drawn_split(each, Plan(validation=0, test=0)) for each in hashes} == {"training"}


def test_another_seed_would_move_songs_between_splits_and_is_refused(tmp_path: Path, corpus: Path) -> None:
    write(tmp_path / "in" / "a.wav", noise(1))
    prepare([tmp_path / "in"], corpus, Plan(seed=3))
    with pytest.raises(CorpusError, match="use --seed 3"):
        prepare([tmp_path / "in"], corpus, Plan())


def test_two_at_a_time_do_not_make_one_corpus(tmp_path: Path, corpus: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    with open(corpus / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CorpusError, match="another process"):
            prepare([tmp_path], corpus, Plan())


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path, corpus: Path) -> None:
    (corpus / SONGS / ".abc.part").mkdir()
    write(tmp_path / "in" / "a.wav", noise(1))
    prepare([tmp_path / "in"], corpus, Plan())
    assert not list((corpus / SONGS).glob(".*"))


def test_ctrl_c_saves_what_is_done_and_the_rest_is_done_later(tmp_path: Path, corpus: Path) -> None:
    for number in range(3):
        write(tmp_path / "in" / f"{number}.wav", noise(number))

    def interrupt(done: int, songs: int, text: str) -> None:
        raise KeyboardInterrupt

    done = prepare([tmp_path / "in"], corpus, Plan(), interrupt)
    assert done.interrupted
    assert len(Corpus.open(corpus).songs()) == 1
    rest = prepare([tmp_path / "in"], corpus, Plan())
    assert (rest.known, rest.new, rest.interrupted) == (1, 2, False)
    assert not list((corpus / SONGS).glob(".*"))


def test_a_process_that_dies_costs_one_song(tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        write(tmp_path / "in" / f"{number}.wav", noise(number))
    # The processes import this first: libsndfile crashes on one of the files.
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import os, soundfile\n"
        "begin = soundfile.SoundFile.__init__\n"
        "def crash(self, file, *more, **named):\n"
        "    if isinstance(file, bytes) and file.endswith(b'/2.wav'): os._exit(9)\n"
        "    begin(self, file, *more, **named)\n"
        "soundfile.SoundFile.__init__ = crash\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))
    done = prepare([tmp_path / "in"], corpus, Plan(jobs=2))
    assert titles(done) == ["0", "1", "3"]
    assert done.damaged == ["in/2.wav: whatever reads it crashes: it is damaged"]
