"""`backline evaluate`: wrong values named with a remedy, and a small run of each command."""

import json
from pathlib import Path

import pytest

from backline.evaluation.separation import row_name
from backline.measures.nisqa import COLUMNS as NISQA
from backline.models.hafm.load import tiny_random
from backline.music import fluidsynth
from backline.music.stems import TRACKS
from backline.packs.pack import write_pack
from tests.cli.test_commands import Backline
from tests.measures.test_pictures import PNG
from tests.packs.test_pack import CONFIG
from tests.support.corpora import noises, write_corpus, write_song
from tests.support.nisqa_checkpoint import write_nisqa
from tests.support.queried import Pulses, write_random_pack

needs_fluidsynth = pytest.mark.skipif(fluidsynth.missing() is not None, reason=str(fluidsynth.missing()))


@pytest.mark.parametrize(
    ("arguments", "code", "remedy"),
    [
        (["accompaniment", "passthrough", "--world", "flat"], 2, "narrow"),
        (["accompaniment", "no-such-pack"], 1, "passthrough"),
        (["accompaniment", "passthrough", "--pieces", "1", "--separator", "none"], 1, "use at least 2"),
        (["accompaniment", "passthrough", "--separator", "passthrough"], 1, "not the stems of a song"),
        (["accompaniment", "passthrough", "--musicnn", "missing.whl"], 1, "pip download --no-deps musicnn"),
        (["codec", "default", "--songs", "no-such-corpus"], 1, "backline data prepare"),
        (["accompaniment", "passthrough", "--chunk", "9"], 1, "up to 4 s"),
        (["accompaniment", "passthrough", "--chunk", "0.5", "--visibility", "0.7"], 1, "-2 s to 0.5 s"),
        (["accompaniment", "passthrough", "--set", "warmth=1"], 1, "use gain"),
        (["accompaniment", "passthrough", "-o", "no-such-folder/out.json"], 1, "make it first"),
        (["accompaniment", "passthrough", "-o", "out.txt"], 1, ".json"),
        (["accompaniment", "passthrough", "--vggish", "missing.pth"], 1, "missing.pth"),
        (["codec", "passthrough"], 1, "convnext"),
        (["grid", "passthrough", "--picture", "out.gif"], 1, ".png"),
        (["separation", "stems", "--no-visqol", "--nisqa", "missing.tar"], 1, "missing.tar"),
        (["separation", "passthrough"], 1, "vocals, drums, bass and other"),
        (["separation", "passthrough", "--songs", "no-such-corpus"], 1, "backline data prepare"),
        (["separation", "passthrough", "--songs", "musdb18hq:nowhere"], 1, "that has it"),
        (["separation", "passthrough", "--songs", "songs", "--world", "narrow"], 2, "leave it out with --songs"),
        (["separation", "passthrough", "--picture", "out.gif"], 1, ".png"),
        (["voices", "passthrough"], 1, "vocals, drums, bass and other"),
        (["voices", "stems", "--run", "no-such-run"], 2, "no-such-run"),
        (["extraction", "passthrough"], 1, "give a pack of the family mge"),
        (["extraction", "no-such-pack"], 1, "passthrough"),
        (["extraction", "passthrough", "--steps", "0"], 2, "steps"),
        (["extraction", "passthrough", "--picture", "out.gif"], 1, ".png"),
        (["imputation", "passthrough", "--guidance", "nan"], 2, "guidance"),
        (["imputation", "passthrough", "-o", "out.txt"], 1, ".json"),
        (["generation", "passthrough", "--vggish", "missing.pth"], 1, "give a pack of the family mge"),
        (["tokens", "passthrough"], 1, "it makes no tokens"),
        (["tokens", "no-such-pack"], 1, "passthrough"),
        (["tokens", "default", "--world", "flat"], 2, "narrow"),
        (["tokens", "default", "--songs", "songs", "--world", "narrow"], 2, "leave it out with --songs"),
        (["tokens", "default", "--songs", "no-such-corpus"], 1, "backline data prepare"),
        (["tokens", "default", "--encodec", "missing.th"], 1, "missing.th"),
        (["tokens", "default", "--seconds", "nan"], 2, "seconds"),
        (["tokens", "default", "--mtt", "no-such-folder"], 2, "no-such-folder"),
        (["tokens", "default", "--picture", "out.gif"], 1, ".png"),
        (["drift", "passthrough", "--minutes", "0.1"], 2, "minutes"),
        (["robustness", "passthrough", "--seconds", "5"], 2, "seconds"),
        (["robustness", "passthrough", "--recordings", "no-such-folder"], 2, "no-such-folder"),
    ],
)
def test_a_wrong_value_is_named_with_its_remedy_before_anything_is_played(
    backline: Backline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], code: int, remedy: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = backline("evaluate", *arguments)
    assert said.code == code
    assert remedy in said.err
    assert said.out == ""


@pytest.mark.slow
@needs_fluidsynth
def test_an_accompaniment_is_measured_shown_and_written(backline: Backline, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    said = backline(
        "evaluate", "accompaniment", "passthrough", "--pieces", 2, "--no-transport", "--separator", "none", "-o", out
    )
    assert said.code == 0, said.err
    for text in ("generated", "reference", "shuffled", "retrieval", "chord match", "missed"):
        assert text in said.out
    written = json.loads(out.read_text())
    assert written["kind"] == "accompaniment"
    assert written["pack"].startswith("passthrough")
    assert written["settings"]["world"] == "narrow"
    assert written["settings"]["transport"] is False
    assert written["rows"]["reference"]["chord match"]["mean"] > 0.7
    assert "quoted, not measured: HAFM" in said.out
    assert written["quoted"][0]["rows"]["HAFM-Base"]["FAD_i"]["mean"] == 2.08


@pytest.mark.slow
@needs_fluidsynth
def test_a_session_of_a_minute_is_watched_for_drift(backline: Backline, tmp_path: Path) -> None:
    out = tmp_path / "drift.json"
    said = backline("evaluate", "drift", "passthrough", "--minutes", 1, "-o", out)
    assert said.code == 0, said.err
    assert {gate["name"] for gate in json.loads(out.read_text())["gates"]} >= {"clipped (share)", "silent (share)"}


@pytest.mark.slow
@needs_fluidsynth
def test_a_separation_is_measured_drawn_and_written(backline: Backline, tmp_path: Path) -> None:
    pytest.importorskip("fast_bss_eval")
    pytest.importorskip("matplotlib")
    write_pack(tmp_path / "packs" / "echo", CONFIG | {"passthrough": {"ports": list(TRACKS)}}, {})
    two = {"name": "two", "passthrough": {"ports": ["vocals", "accompaniment"]}}
    write_pack(tmp_path / "packs" / "two", CONFIG | two, {})
    out, picture = tmp_path / "out.json", tmp_path / "out.png"
    said = backline(
        *("evaluate", "separation", "echo", "--packs", tmp_path / "packs", "--set", "gain=0.5", "--no-visqol"),
        *("--pieces", 1, "--beside", "two", "--picture", picture, "-o", out),
        *("--nisqa", write_nisqa(tmp_path / "nisqa.tar")),
    )
    assert said.code == 0, said.err
    for text in ("separated, vocals", "ideal ratio mask", "HPSS", "missed", "nothing is compared with coded stems"):
        assert text in said.out + said.err
    written = json.loads(out.read_text())
    assert written["kind"] == "separation"
    assert written["settings"]["world"] == "narrow"
    assert written["settings"]["parameters"] == {"gain": 0.5}
    assert written["rows"]["separated, drums"]["SI-SDR gain dB"]["mean"] == pytest.approx(0, abs=1e-3)
    assert written["rows"]["separated"]["sum error dB"]["mean"] == pytest.approx(0, abs=1e-3)  # four halves
    assert written["rows"]["two, vocals"] == written["rows"]["mixture, vocals"]
    assert "two, drums" not in written["rows"]
    assert written["rows"]["two"].keys() == {"sum error dB"}  # no mean of fewer stems than the others have
    judged = [name for name, row in written["rows"].items() if set(NISQA) <= row.keys()]
    methods = ("separated", "mixture", "ideal ratio mask", "HPSS", "two", "true")
    assert sorted(judged) == sorted(row_name(name, "vocals") for name in methods)
    assert any("NISQA" in quoted["rows"]["MSS-LM"] for quoted in written["quoted"])
    assert picture.read_bytes().startswith(PNG)


def write_pulses(folder: Path, pieces: int) -> Path:
    """A corpus of test songs of drums and a piano."""
    songs = []
    for number in range(pieces):
        song = Pulses(number, ("drums", "piano"))
        songs.append(write_song(folder, song.title, {name: song.read(name, 48_000) for name in song.labels}, "test"))
    return write_corpus(folder, *songs).folder


def test_an_extraction_is_measured_drawn_and_written(backline: Backline, tmp_path: Path) -> None:
    pytest.importorskip("fast_bss_eval")
    pytest.importorskip("matplotlib")
    write_random_pack(tmp_path / "packs")
    write_pack(tmp_path / "packs" / "echo", CONFIG | {"name": "echo", "passthrough": {"ports": list(TRACKS)}}, {})
    corpus = write_pulses(tmp_path / "corpus", 1)
    out, picture = tmp_path / "out.json", tmp_path / "out.png"
    said = backline(
        *("evaluate", "extraction", "mge", "--packs", tmp_path / "packs", "--songs", corpus, "--pieces", 1),
        *("--beside", "echo", "--ablation", "--picture", picture, "-o", out),
    )
    assert said.code == 0, said.err
    for text in ("mask, drums", "ideal ratio mask", "HPSS", "VAE, mask", "missed", "held-out words could be asked"):
        assert text in said.out + said.err
    written = json.loads(out.read_text())
    assert written["kind"] == "extraction"
    assert written["settings"]["songs"] == str(corpus)
    assert written["settings"]["readout"] == "mask"
    rows = written["rows"]
    for column in ("log-mel L1", "SI-SDR dB"):  # through a session, of another's rate
        assert rows["echo, drums"][column]["mean"] == pytest.approx(rows["mixture, drums"][column]["mean"], abs=1e-2)
    assert rows["steps = 1"] == rows["mask"]
    assert {"steps = 32", "guidance = 2", "adaptive times", "RePaint, U = 4"} <= rows.keys()
    assert written["quoted"][0]["source"].startswith("MGE-LDM")
    assert written["quoted"][0]["rows"]["MGE-LDM T4, all"]["drums"]["mean"] == 0.83
    assert "piano" not in written["quoted"][0]["rows"]["HDemucs"]
    assert picture.read_bytes().startswith(PNG)


@pytest.mark.parametrize("command", ["imputation", "generation"])
def test_what_is_made_is_measured_drawn_and_written(backline: Backline, tmp_path: Path, command: str) -> None:
    pytest.importorskip("matplotlib")
    write_random_pack(tmp_path / "packs")
    corpus = write_pulses(tmp_path / "corpus", 2)
    out, picture = tmp_path / "out.json", tmp_path / "out.png"
    said = backline(
        *("evaluate", command, "mge", "--packs", tmp_path / "packs", "--songs", corpus, "--pieces", 2),
        *("--steps", 1, "--guidance", 1.5, "--picture", picture, "-o", out),
    )
    assert said.code == 0, said.err
    written = json.loads(out.read_text())
    assert written["kind"] == command
    assert (written["settings"]["steps"], written["settings"]["guidance"]) == (1, 1.5)
    wanted = {"imputation": {"imputed, drums", "true, comping", "shuffled, drums", "silence, comping"},
              "generation": {"generated", "prompted", "held-out songs", "VAE"}}  # fmt: skip
    assert wanted[command] <= written["rows"].keys()
    assert any("frames, and it takes at least" in note for note in written["notes"])  # four seconds are too few
    assert "quoted, not measured: MGE-LDM" in said.out
    assert picture.read_bytes().startswith(PNG)


def test_tokens_are_judged_shown_drawn_and_written(backline: Backline, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_pack(tmp_path / "packs" / "tiny", *tiny_random())
    entries = [
        write_song(tmp_path / "corpus", f"{split} {at}", noises("vocals", "drums", seconds=9.0, seed=at), split=split)
        for split in ("training", "test")
        for at in range(2)
    ]
    write_corpus(tmp_path / "corpus", *entries)
    out, picture = tmp_path / "out.json", tmp_path / "out.png"
    said = backline(
        *("evaluate", "tokens", "tiny", "--packs", tmp_path / "packs", "--songs", tmp_path / "corpus", "--quick"),
        *("--learnt", 2, "--steps", 2, "--seconds", 4, "--kmeans", 8, "--picture", picture, "-o", out),
    )
    assert said.code == 0, said.err
    for text in ("tiny, harmony: V>A", "k-means of mel: both", "mismatch", "no score", "quoted, not measured: DuoTok"):
        assert text in said.out + said.err
    written = json.loads(out.read_text())
    assert (written["kind"], written["settings"]["steps"], written["settings"]["learnt"]) == ("tokens", 2, 2)
    assert written["rows"]["tiny, codec: both"]["tokens/s"]["mean"] == 2 * 75 * 8
    assert written["quoted"][1]["rows"]["DuoTok: V>A"]["enBPT"]["mean"] == 0.489
    assert "BPT" not in written["quoted"][1]["rows"]["DuoTok: both"]
    assert picture.read_bytes().startswith(PNG)
