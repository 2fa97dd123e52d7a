"""Tokenizers are judged by what their tokens are: known entropies, known dependence between tracks, known labels."""

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor
from torch.nn import functional as F

from backline.codecs.duotok.config import ROLES
from backline.codecs.duotok.load import load as load_tokenizer
from backline.codecs.hcodec.network import HCodec, HCodecConfig
from backline.codecs.hcodec.windowed import WindowedHCodec
from backline.corpus.multitrack import has_voice_and_band
from backline.corpus.songs import CorpusSongs
from backline.evaluation.plan import Plan
from backline.evaluation.tokens import lm, probes
from backline.evaluation.tokens.evaluate import Trial, cost, evaluate_tokens, predictability
from backline.evaluation.tokens.gates import token_gates
from backline.evaluation.tokens.lm import LmProtocol, LmTraining, Told, TrackLM, affordable_steps
from backline.evaluation.tokens.magnatagatune import ANNOTATIONS, read_clips, tagged_clips
from backline.evaluation.tokens.picture import draw_tokens
from backline.evaluation.tokens.probes import Moments, Tagged, moment_scores, tag_scores, tags, truths
from backline.evaluation.tokens.reconstruction import reconstruction
from backline.evaluation.tokens.songs import Place, TokenSong, drawn, long_enough, windows
from backline.evaluation.tokens.tokenizers import (
    ACCOMPANIMENT,
    TRACKS,
    VOCALS,
    CodecTokens,
    DualTokenizer,
    pack_tokenizers,
)
from backline.measures.report import Figure, Row
from backline.models.errors import PackError
from backline.models.hafm.load import tiny_random
from backline.music.composer import compose
from backline.music.world import WIDE
from backline.nn.llama import LlamaConfig
from backline.packs.pack import read_pack, read_tensors, write_pack
from tests.measures.test_pictures import PNG
from tests.packs.test_pack import CONFIG
from tests.support.corpora import noises, write_corpus, write_song
from tests.support.toy_duo_pack import toy_pack

ENTRIES = 8
TINY = LmProtocol(
    window=4.0,
    prefix=0.5,
    steps=60,
    rows=4,
    rate=1e-2,
    network=LlamaConfig(layers=1, width=32, heads=2, feed_forward=32),
)


class Toy:
    """Loudness in steps, and in other steps: codebooks of 8 and of 4 entries, 10 frames a second."""

    sample_rate, hop, frame_rate, sizes = 1600, 160, Fraction(10), (ENTRIES, 4)

    def encode(self, audio: Tensor) -> Tensor:
        level = audio[:, 0].unflatten(-1, (-1, self.hop)).square().mean(-1).sqrt()  # [row, frame]
        steps = (level * 1000).long()
        return torch.stack([steps % ENTRIES, steps // ENTRIES % 4], dim=1)

    def vectors(self, codes: Tensor) -> Tensor:
        return torch.cat([F.one_hot(codes[0].long(), ENTRIES), F.one_hot(codes[1].long(), 4)], dim=1).float()

    def render(self, codes: Tensor) -> Tensor:
        return (codes.sum(0) / 100).repeat_interleave(self.hop)


class OneBook(Toy):
    sizes = (ENTRIES,)

    def encode(self, audio: Tensor) -> Tensor:
        return super().encode(audio)[:, :1]

    def vectors(self, codes: Tensor) -> Tensor:
        return F.one_hot(codes[0].long(), ENTRIES).float()


TOY = DualTokenizer("toy", {VOCALS: Toy(), ACCOMPANIMENT: OneBook()})
ONE = DualTokenizer("one", dict.fromkeys(TRACKS, OneBook()))


def token_song(voice: Tensor, band: Tensor, name: str = "one", beat: float | None = 0.5) -> TokenSong:
    """Of codes [codebook, frame] at 10 Hz."""
    return TokenSong("song", voice.shape[1] / 10, {name: {VOCALS: voice, ACCOMPANIMENT: band}}, None, beat, 2.0)


def random_codes(seed: int, frames: int = 80, books: int = 1) -> Tensor:
    return torch.randint(ENTRIES, (books, frames), generator=torch.Generator().manual_seed(seed)).int()


def echoes(count: int, first: int = 0) -> list[TokenSong]:
    """Songs in which the band repeats the voice, which is random."""
    return [token_song(random_codes(first + seed), random_codes(first + seed)) for seed in range(count)]


def trained(mode: lm.Mode, songs: Sequence[TokenSong], protocol: LmProtocol = TINY) -> TrackLM:
    return LmTraining(ONE, mode, protocol, songs, torch.device("cpu")).finish()


@pytest.fixture(scope="module")
def listener() -> TrackLM:
    """It has learnt, from echoes, to predict the band by the voice."""
    return trained("conditional", echoes(24), replace(TINY, steps=150))


# ---- the language model ----


def test_the_input_is_the_papers() -> None:
    """Eq. 24: one matrix on the joined embeddings of all codebooks of both tracks."""
    songs = [token_song(random_codes(0), random_codes(1), "one")]
    model = TrackLM(ONE, "unconditional", TINY, songs)
    codes = {track: random_codes(2 + at)[None].long() for at, track in enumerate(TRACKS)}
    joined = torch.cat([model.tables[track][0](codes[track][:, 0]) for track in TRACKS], dim=-1)
    matrix = torch.cat([model.joined[track].weight for track in TRACKS], dim=1)
    found = model.heard(VOCALS, codes[VOCALS]) + model.heard(ACCOMPANIMENT, codes[ACCOMPANIMENT])
    assert torch.allclose(found, joined @ matrix.T, atol=1e-5)


@pytest.mark.parametrize("mode", lm.MODES)
@torch.no_grad()
def test_no_token_is_seen_before_it_is_predicted(mode: lm.Mode) -> None:
    songs = echoes(2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TrackLM(ONE, mode, TINY, songs)
        for head in model.heads[ACCOMPANIMENT]:
            torch.nn.init.normal_(head.weight)
    codes = {track: random_codes(5 + at, 40) for at, track in enumerate(TRACKS)}
    changed = {**codes, ACCOMPANIMENT: codes[ACCOMPANIMENT].clone()}
    changed[ACCOMPANIMENT][:, 20] = (changed[ACCOMPANIMENT][:, 20] + 1) % ENTRIES
    one, other = (model.told(lm.on(each, torch.device("cpu")))[ACCOMPANIMENT].bits[0] for each in (codes, changed))
    at = 20 - (40 - len(one))  # of the changed token among those that are predicted
    assert torch.allclose(one[:at], other[:at], atol=1e-5)
    assert not torch.allclose(one[at + 1 :], other[at + 1 :], atol=1e-5)


@torch.no_grad()
def test_the_condition_is_heard_whole_and_only_what_follows_the_prefix_counts() -> None:
    model = TrackLM(ONE, "conditional", TINY, echoes(2))
    for head in model.heads[ACCOMPANIMENT]:
        torch.nn.init.normal_(head.weight)
    codes = {track: random_codes(5 + at, 40) for at, track in enumerate(TRACKS)}
    bits = model.told(lm.on(codes, torch.device("cpu")))[ACCOMPANIMENT].bits
    assert bits.shape == (1, 35), "half a second of 10 Hz is given"
    changed = {**codes, VOCALS: codes[VOCALS].clone()}
    changed[VOCALS][:, 39] = (changed[VOCALS][:, 39] + 1) % ENTRIES
    other = model.told(lm.on(changed, torch.device("cpu")))[ACCOMPANIMENT].bits
    assert ((bits - other).abs() > 1e-7).any(dim=0)[:5].any(), "the first ones know the voice's end"


def test_it_begins_at_the_tokens_frequencies() -> None:
    codes = torch.tensor([[0] * 60 + [1] * 20]).int()
    model = TrackLM(ONE, "unconditional", TINY, [token_song(codes, codes)])
    bits = model.told(lm.on(dict.fromkeys(TRACKS, codes[:, :40]), torch.device("cpu")))[VOCALS].bits
    assert bits[0, 5].item() == pytest.approx(-math.log2(60.5 / 84), abs=1e-4)


def test_what_nothing_predicts_costs_its_index() -> None:
    songs = [token_song(random_codes(seed), random_codes(100 + seed)) for seed in range(20)]
    model = trained("unconditional", songs[:16], replace(TINY, steps=10))
    told = lm.predictions(model, ONE, windows(songs[16:], 4.0), TINY)
    found, _ = predictability(ONE, VOCALS, told[VOCALS], [3.0])
    assert found.cnbpt == pytest.approx(1, abs=0.06)


def test_a_band_that_follows_the_voice_is_predicted_by_it_and_costs_more_when_that_is_spoilt(
    listener: TrackLM,
) -> None:
    places = windows(echoes(4, first=1000), 4.0)
    told = lm.predictions(listener, ONE, places, TINY)[ACCOMPANIMENT]
    assert np.mean([float(each.bits.mean()) for _, each in told]) < 1.5, "3 bits if nobody listens"
    bits = lm.corruption_bits(listener, ONE, places, TINY)
    clean = bits.pop("clean")
    costs = {name: cost(clean, values).mean for name, values in bits.items()}
    assert set(costs) == {
        "shift 1 beat", "shift 1 bar", "shift 4 s", "mask 0.1", "mask 0.3", "mask 0.5", "mask 1", "mismatch"
    }  # fmt: skip
    assert costs["shift 4 s"] == pytest.approx(0, abs=1e-3), "a window of 4 s rolls onto itself"
    assert min(costs["mismatch"], costs["shift 1 beat"], costs["shift 1 bar"], costs["mask 1"]) > 50
    assert 0 < costs["mask 0.1"] < costs["mask 0.3"] < costs["mask 0.5"]


def test_cost_is_equation_8_on_the_songs_that_could_be_spoilt() -> None:
    one, two, three = (token_song(random_codes(at), random_codes(at)) for at in range(3))
    clean = [(one, 2.0), (one, 4.0), (two, 5.0), (three, 9.0)]
    found = cost(clean, [(one, 4.0), (one, 4.0), (two, 6.0)])
    assert found.mean == pytest.approx(100 * ((4 + 6) - (3 + 5)) / (3 + 5))
    assert found.error == pytest.approx(0)


def test_songs_without_a_tempo_are_not_shifted_by_beats(listener: TrackLM) -> None:
    song = replace(echoes(1)[0], beat_seconds=None, bar_seconds=None)
    bits = lm.corruption_bits(listener, ONE, windows([song], 4.0), TINY)
    assert "shift 1 beat" not in bits
    assert "mismatch" not in bits, "there is no other song"
    assert "shift 4 s" in bits


def test_context_is_measured_on_the_same_last_tokens() -> None:
    """Every token is the one of 3 s before, so 2 s of context know nothing of it and 4 s do."""
    songs = []
    for seed in range(24):
        codes = random_codes(seed, 30).repeat(1, 3)[:, :80]
        songs.append(token_song(codes, codes))
    model = trained("unconditional", songs[:20], replace(TINY, steps=250, prefix=1.0, window=8.0))
    found = lm.context_bits(model, ONE, windows(songs[20:], 8.0), replace(TINY, prefix=1.0, window=8.0))
    assert list(found) == ["2 s", "5 s"], "longer ones have no window here"
    values = {name: float(np.mean(lm.by_song(own))) for name, own in found.items()}
    assert values["2 s"] > 0.9
    assert values["5 s"] < values["2 s"] - 0.2


def test_figures_of_a_track_by_hand() -> None:
    one, two = (token_song(random_codes(at), random_codes(at)) for at in range(2))
    told = [
        (one, Told(torch.tensor([[1.0, 3.0], [2.0, 2.0]]), torch.tensor([[0, 0], [4, 12]]))),
        (two, Told(torch.tensor([[4.0, 4.0], [0.0, 0.0]]), torch.tensor([[0, 60], [9, 10]]))),
    ]
    found, row = predictability(TOY, VOCALS, told, [2.0, 1.0])  # codebooks of 8 and of 4 entries
    assert found.bits_per_token == (3.0, 1.0)
    assert row["BPT"] == Figure(2.0, 0.0)
    assert row["cnBPT"].mean == pytest.approx(2 / 2.5)
    assert row["enBPT"].mean == pytest.approx(2 / 1.5)
    assert row["cnBPS"].mean == pytest.approx(20 * 2 / 2.5)
    assert [row[f"Acc@{top}"].mean for top in (1, 10, 50)] == [(0.5 + 0.25) / 2, (0.75 + 0.5) / 2, (1 + 0.75) / 2]


def test_steps_are_the_same_for_all_and_fit_into_the_minutes() -> None:
    assert affordable_steps([1.0, 3.0, 2.0], 1500, 1.0) == 10
    assert affordable_steps([1.0], 5, 1.0) == 5
    assert affordable_steps([100.0], 5, 1.0) == 2
    assert affordable_steps([], 7, None) == 7


# ---- windows ----


def test_windows_are_drawn_alike_for_every_tokenizer_and_lie_within_songs() -> None:
    songs = [token_song(random_codes(at, 60 + 10 * at), random_codes(at, 60 + 10 * at)) for at in range(3)]
    places = drawn(songs, 4.0, 50, seed=1)
    assert places == drawn(songs, 4.0, 50, seed=1)
    for place in places:
        assert place.codes(ONE, 4.0)[VOCALS].shape == (1, 40)
    assert len(long_enough(songs, [ONE], 6.5)) == 2
    assert [place.begin for place in windows(songs[2:], 4.0)] == [0.0, 4.0]


# ---- probes ----


def test_truths_are_the_scores_frame_by_frame() -> None:
    piece = compose(3, WIDE)
    found = truths(piece, 8.0, 50)
    for frame in range(50):
        second = 8.0 + (frame + 0.5) / 12.5
        beat = second * piece.tempo / 60
        chord = [span.chord for span in piece.chords if span.start <= beat][-1]
        third, fifth = chord.pitch_classes[1], chord.pitch_classes[2]
        quality = {(4, 7): 0, (3, 7): 1, (3, 6): 2}[(third - chord.root) % 12, (fifth - chord.root) % 12]
        assert found["chord"][frame] == chord.root + 12 * quality
        assert found["key"][frame] == piece.key.tonic + 12 * (piece.key.mode == "minor")
        assert found["beat phase"][frame] == int(4 * (beat / piece.metre.pulse % 1))
        sounds = any(
            0 <= note.start * piece.seconds_per_beat - (8.0 + frame / 12.5) < 0.08
            for notes in piece.parts.values()
            for note in notes
        )
        assert found["onset"][frame] == sounds
    assert set(found) == set(probes.CLASSES)


def test_linear_maps_find_what_the_vectors_say_and_nothing_else() -> None:
    random = torch.Generator().manual_seed(0)

    def window(knows: bool) -> Moments:
        answers = {name: torch.randint(classes, (60,), generator=random) for name, classes in probes.CLASSES.items()}
        answers["key"] = answers["key"][:1].expand(60)
        seen = answers if knows else {name: torch.zeros_like(each) for name, each in answers.items()}
        vectors = [F.one_hot(seen[name], classes).float() for name, classes in probes.CLASSES.items()]
        return Moments(torch.cat(vectors, dim=1), answers)

    for knows in (True, False):
        learnt, judged = [window(knows) for _ in range(40)], [window(knows) for _ in range(6)]
        row = moment_scores(learnt, judged, judged)
        for name, chance in {"chord found": 1 / 36, "beat phase found": 1 / 4, "onset AUC": 1 / 2}.items():
            found = row[name].mean
            assert found > 0.95 if knows else found < chance + 0.15, (knows, name)


def test_a_linear_map_hears_a_third_of_a_second_ahead_and_no_more() -> None:
    x = torch.zeros(30, 1)
    x[20] = 1
    assert probes._near(x).abs().sum(1).nonzero().flatten().tolist() == list(range(16, 25))
    near = probes._near(torch.arange(30.0)[:, None])
    assert near[10].tolist() == [7.5, 10.0, 12.5]  # means of 6 to 9 and of 11 to 14
    assert near[0].tolist() == [0.0, 0.0, 2.5]


def test_the_tagging_probe_finds_tags_that_can_be_heard() -> None:
    random = torch.Generator().manual_seed(0)

    def clip(number: int) -> Tagged:
        loud, other = number % 2 == 0, number % 3 == 0
        features = torch.randn(20, 4, generator=random)
        features[:, 0] += 2 * loud
        return Tagged(features, frozenset(["loud"] * loud + ["other"] * other + ["always"]))

    learnt, judged = [clip(at) for at in range(24)], [clip(at) for at in range(24)]
    assert probes.told_apart(learnt, judged) == ["loud", "other"]
    alone = [replace(each, tags=each.tags - {"other"}) for each in judged]
    row = tag_scores(learnt, alone, 60, torch.device("cpu"))
    assert row["tag AP"].mean > 0.9
    assert row["tag AUC"].mean > 0.9
    chance = probes.majority_scores(learnt, alone)
    assert (chance["tag AP"].mean, chance["tag AUC"].mean) == (0.5, 0.5)


def test_a_composed_song_has_its_own_tags() -> None:
    piece = compose(5, WIDE)
    found = tags(piece, WIDE.voices)
    assert {f"style {piece.style}", f"mode {piece.key.mode}", f"metre {piece.metre.name}"} <= found
    assert f"singer {WIDE.voices.index(piece.voice)}" in found
    assert f"programme {piece.band.bass}" in found


# ---- sound ----


def test_what_comes_back_whole_has_no_distance_and_a_silent_track_counts_not() -> None:
    pytest.importorskip("pystoi")
    sound = noises("voice", seconds=3.0, channels=1)["voice"][0]

    class Same(OneBook):
        sample_rate, hop = 48_000, 4800

        def render(self, codes: Tensor) -> Tensor:
            return torch.from_numpy(sound)

    tokenizer = Same()
    codes = torch.zeros(1, 30, dtype=torch.int32)
    found = reconstruction(tokenizer, tokenizer, codes, sound, VOCALS)
    assert found["log-mel L1"] == pytest.approx(0, abs=1e-6)
    assert found["SI-SDR dB"] > 60
    assert found["STOI"] == pytest.approx(1, abs=1e-3)
    assert set(reconstruction(tokenizer, tokenizer, codes, sound, ACCOMPANIMENT)) == {"log-mel L1", "SI-SDR dB"}
    assert reconstruction(tokenizer, tokenizer, codes, 0 * sound, VOCALS) == {}


# ---- the whole ----


def band_corpus(folder: Path, songs: int = 3) -> CorpusSongs:
    random = np.random.default_rng(0)
    entries = []
    for split in ("training", "test"):
        for number in range(songs):
            stems = noises("vocals", "drums", seconds=9.0, channels=1, seed=len(entries))
            for name in stems:
                level = np.repeat(random.uniform(0.1, 2, 90), 4800).astype(np.float32)
                stems[name] = stems[name] * level
            entries.append(write_song(folder, f"{split} {number}", stems, split=split))  # type: ignore[arg-type]
    return CorpusSongs(write_corpus(folder, *entries), has_voice_and_band, seconds=8.0)


def test_every_tokenizer_has_its_rows_on_songs_from_disk(tmp_path: Path) -> None:
    both = dict.fromkeys(TRACKS, OneBook())
    one = replace(ONE, own=both, matched=both, gated=True)
    doing: list[str] = []
    trial = Trial(replace(TINY, steps=3), mel_entries=8)
    plan = Plan(band_corpus(tmp_path / "corpus"), pieces=2)
    found = evaluate_tokens([TOY, one], plan, range(3), trial, say=lambda what, share: doing.append(what))
    assert [each.name for each in found.tokenizers] == ["toy", "one", "k-means of mel"]
    assert found.steps == 3
    for name in ("toy", "one", "k-means of mel"):
        assert {f"{name}: {what}" for what in (*TRACKS, "both", "V>A")} <= set(found.rows)
    both_row, voice, band = (found.rows[f"toy: {what}"] for what in ("both", *TRACKS))
    assert both_row["tokens/s"].mean == 30
    assert both_row["kbit/s"].mean == pytest.approx((10 * (3 + 2) + 10 * 3) / 1000)
    assert both_row["cnBPT"].mean == pytest.approx((voice["cnBPT"].mean + band["cnBPT"].mean) / 2)
    assert both_row["cnBPS"].mean == pytest.approx(voice["cnBPS"].mean + band["cnBPS"].mean)
    assert found.rows["one: V>A"]["mismatch %"].error is not None
    assert "log-mel L1" in found.rows["one: vocals"]
    assert "matched log-mel L1" in found.rows["one: vocals"]
    assert "log-mel L1" not in found.rows["toy: vocals"], "nothing makes sound of its tokens"
    assert not any("chord found" in row for row in found.rows.values())
    assert any("no score" in note for note in found.notes)
    assert any("model learns" in each for each in doing)
    drawn_to = draw_tokens(tmp_path / "out.png", found.rows, [each.name for each in found.tokenizers])
    assert drawn_to.read_bytes().startswith(PNG)
    assert {gate.name for gate in token_gates("one", found.rows)} >= {"cnBPS of both tracks"}


def test_songs_that_are_too_short_are_said_to_be(tmp_path: Path) -> None:
    plan = Plan(band_corpus(tmp_path / "corpus", songs=1), pieces=1)
    trial = Trial(replace(TINY, window=20.0), mel_entries=None)
    with pytest.raises(ValueError, match="0 to judge by are 20 s long: give at least one of each, or shorter windows"):
        evaluate_tokens([ONE], plan, range(1), trial)


def test_tracks_with_other_frames_are_refused() -> None:
    class Slow(OneBook):
        frame_rate = Fraction(5)

    with pytest.raises(ValueError, match="use one rate for both"):
        DualTokenizer("two", {VOCALS: Toy(), ACCOMPANIMENT: Slow()})


def test_a_codec_of_unknown_vectors_is_not_guessed_at() -> None:
    class Strange:
        sample_rate, hop, frame_rate, codebooks, codebook_size = 1600, 160, Fraction(10), 1, 4

    with pytest.raises(ValueError, match="Strange stand for no vectors that are known here: give a ConvNeXt codec"):
        CodecTokens(Strange())  # type: ignore[arg-type]


# ---- packs ----


def test_a_duotok_pack_is_one_tokenizer_with_its_renderers(tmp_path: Path) -> None:
    config, tensors = toy_pack()
    (found,) = pack_tokenizers(write_pack(tmp_path / "toy", {**CONFIG, **config, "name": "toy"}, tensors))
    assert (found.name, found.gated, found.frame_rate) == ("toy", True, 25)
    tokenizer = load_tokenizer(config["tokenizer"], tensors)
    sound = noises("voice", seconds=2.0, channels=1)["voice"][0][::6]  # 8 kHz
    for role in ROLES:
        codes = found.encode(role, sound)
        assert torch.equal(codes.long(), tokenizer.encode(torch.from_numpy(sound)[None], role))
        vectors = found.tracks[role].vectors(codes)
        assert torch.equal(vectors, tokenizer.vectors(codes.long(), role)[0])
        made = found.own[role].render(codes)
        assert len(made) / found.own[role].sample_rate == pytest.approx(2.0)
    assert found.matched == found.own
    silent = {name: table for name, table in config.items() if name not in ("renderer", "vae", "lm")}
    (alone,) = pack_tokenizers(write_pack(tmp_path / "silent", {**CONFIG, **silent, "name": "silent"}, tensors))
    assert not alone.own


def test_a_hafm_pack_is_its_codec_and_what_it_listens_with(tmp_path: Path) -> None:
    codec, harmony = pack_tokenizers(write_pack(tmp_path / "tiny", *tiny_random()))
    assert (codec.name, harmony.name) == ("tiny, codec", "tiny, harmony")
    sound = noises("voice", seconds=2.0, channels=1)["voice"][0][::2]
    codes = codec.encode(VOCALS, sound)
    assert codes.shape == (len(codec.tracks[VOCALS].sizes), 150)
    inner = codec.tracks[VOCALS].codec  # type: ignore[attr-defined]
    assert torch.equal(codec.tracks[VOCALS].vectors(codes), inner.quantizer.decode(codes[None].long())[0].T)
    assert len(codec.own[VOCALS].render(codes)) == 48_000
    tokens = harmony.encode(ACCOMPANIMENT, sound)
    assert tokens.shape == (1, 100)
    centroids = read_tensors(read_pack(tmp_path / "tiny"))["semantics.vocal.centroids"].float()
    assert torch.equal(harmony.tracks[VOCALS].vectors(tokens), centroids[tokens[0].long()])
    assert not harmony.own


def test_hcodecs_vectors_are_what_its_decoder_hears() -> None:
    torch.manual_seed(0)
    sizes = HCodecConfig(
        width=64, feed_forward=64, encoder_blocks=1, decoder_blocks=1, transformer_layers=0, latent=8, codebooks=2,
        codebook_size=16, features="mel", feature_width=16, semantic_width=16,
    )  # fmt: skip
    codec = WindowedHCodec(HCodec(sizes).eval())
    tokens = CodecTokens(codec)
    codes = torch.randint(16, (4, 12)).int()
    vectors = tokens.vectors(codes)
    assert vectors.shape == (12, 16)
    with torch.no_grad():
        assert torch.equal(codec.network.decode_vectors(vectors.T[None])[0, 0], tokens.render(codes))


def test_a_pack_without_tokens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="it makes no tokens"):
        pack_tokenizers(write_pack(tmp_path / "echo", CONFIG, {}))


# ---- gates, MagnaTagATune ----


def test_gates_are_the_designs_and_come_only_where_there_is_something_to_hold_them_by() -> None:
    rows: dict[str, Row] = {
        "mine: both": {"cnBPS": Figure(24.0), "enBPT": Figure(0.5), "cnBPT by 5 s": Figure(0.5), "tag AP": Figure(0.4)},
        "mine: V>A": {"enBPT": Figure(0.7), "mismatch %": Figure(9.0)},
        "k-means of mel: both": {"enBPT": Figure(0.6)},
        "default, codec: both": {"tag AP": Figure(0.35)},
    }
    gates = {gate.name: gate.passed for gate in token_gates("mine", rows)}
    assert gates == {
        "cnBPS of both tracks": True,
        "enBPT where the voice is known": False,
        "enBPT of both tracks": True,
        "cost of another song's voice, %": True,
        "tag AP": False,  # .45 would do
    }
    more = {**rows, "mine: both": {**rows["mine: both"], "cnBPT by 20 s": Figure(0.48)}}
    assert {gate.name: round(gate.found, 6) for gate in token_gates("mine", more)}[
        "gain of 20 s of context over 5 s, %"
    ] == pytest.approx(4)


def test_magnatagatune_is_read_by_its_table_and_split(tmp_path: Path) -> None:
    lines = ["clip_id\tguitar\tslow\tmp3_path"]
    for number, folder in enumerate("0bcdf"):
        (tmp_path / folder).mkdir()
        sound = noises("mix", seconds=29.5, channels=1, seed=number)["mix"][0][::30]  # 1600 Hz
        soundfile.write(tmp_path / folder / "clip.wav", sound, 1600)
        lines.append(f"{number}\t{number % 2}\t1\t{folder}/clip.wav")
    (tmp_path / ANNOTATIONS).write_text("\n".join(lines) + "\n")
    learnt, judged = read_clips(tmp_path, "learnt"), read_clips(tmp_path, "judged")
    assert [clip.path.parent.name for clip in learnt] == ["0", "b"]
    assert [clip.path.parent.name for clip in judged] == ["d", "f"]
    assert [clip.tags for clip in learnt] == [{"slow"}, {"guitar", "slow"}]
    found = tagged_clips(learnt, [TOY])["toy"]
    assert [each.features.shape for each in found] == [(362, 20)] * 2
    assert len(read_clips(tmp_path, "learnt", most=1)) == 1


def test_a_folder_that_is_no_magnatagatune_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"annotations_final\.csv is not there"):
        read_clips(tmp_path, "learnt")
    (tmp_path / ANNOTATIONS).write_text("a\tb\n1\t2\n")
    with pytest.raises(ValueError, match="no columns clip_id and mp3_path"):
        read_clips(tmp_path, "learnt")


def test_a_window_of_a_song_is_where_it_begins() -> None:
    codes = random_codes(0)
    song = token_song(codes, codes)
    assert torch.equal(Place(song, 2.5).codes(ONE, 4.0)[VOCALS], codes[:, 25:65])
