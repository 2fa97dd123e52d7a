"""HAFM on a tokenizer's tokens: its own, of which there are thousands, or clusters of what it hears; 25 a second."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from backline.cli.main import app
from backline.codecs.convnext import ConvNeXtCodec, ConvNeXtCodecConfig
from backline.codecs.duotok.config import SMALL
from backline.codecs.duotok.load import packed
from backline.codecs.duotok.tokenizer import Tokenizer
from backline.corpus.manifest import SongEntry
from backline.models.hafm.interleaved.network import StageNetwork
from backline.models.hafm.load import build, load_encoder
from backline.music.seeds import Purpose
from backline.packs.importers.checkpoint import Component
from backline.packs.pack import read_pack, read_tensors, write_pack
from backline.packs.parts import own_tokens, read_semantics_part, save_part
from backline.packs.registry import PackRegistry
from tests.support.corpora import noises, write_corpus, write_song
from tests.support.hafm import Player, play, session, voice

TOY = replace(
    SMALL, bands=16, channels=16, layers=1, width=16, heads=2, ahead=(2,), context=16, code_dim=8, entries=5_000
)
STAGES = {"toy": {"layers": 1, "width": 32, "heads": 2, "head_width": 16}}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack with a tokenizer and a codec, both of toy size and random weights, and a corpus of noises."""
    folder = tmp_path_factory.mktemp("lab")
    songs: list[SongEntry] = []
    splits: tuple[Purpose, ...] = ("training", "validation")
    for split in splits:
        for number in (0, 1):
            stems = noises("vocals", "instrumental", seconds=11.0, seed=len(songs))
            songs.append(write_song(folder / "corpus", f"{split} {number}", stems, split=split))
    write_corpus(folder / "corpus", *songs)
    codec = ConvNeXtCodecConfig(
        codebooks=4, codebook_size=64, latent=16, encoder_width=16, encoder_blocks=1, decoder_width=16, decoder_blocks=1
    )
    torch.manual_seed(0)
    tensors = {f"codec.{name}": tensor.contiguous() for name, tensor in ConvNeXtCodec(codec).state_dict().items()}
    table, tokens = packed(Tokenizer(TOY).eval())
    config = {"name": "toy", "version": "1", "family": "codec", "description": "toy", "license": "Apache-2.0"}
    config |= {"codec": {"kind": "convnext", **vars(codec)}, "tokenizer": table}
    write_pack(folder / "packs" / "toy", config, tensors | tokens)
    save_part(Component(table, tokens), folder / "tokenizer.safetensors")
    return folder


def backline(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


@pytest.mark.slow
@pytest.mark.parametrize("way", ["own tokens", "clusters"])
def test_it_is_trained_and_played(lab: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    name = way.replace(" ", "-")
    run, packs = lab / name, lab / "packs"
    monkeypatch.setattr("backline.training.hafm_pack.SIZES", STAGES)
    common = ("--run", run, "--packs", packs, "--device", "cpu", "--songs", lab / "corpus")
    fitted = ("--own-tokens",) if way == "own tokens" else ("--clusters", 12, "--passages", 2)
    said = backline("train", "kmeans", "--semantics", "pack:toy", *fitted, *common)
    assert ("5000 clusters" if way == "own tokens" else "12 clusters") in said
    assert "a stream gives 100%" in said  # its encoder is causal
    said = backline(
        "train", "hafm", "--codec", "pack:toy", "--size", "toy", "--steps", 3, "--batch", 2, "--accumulate", 1,
        "--jobs", 1, "--layout", "stream", "-o", packs / name, *common,
    )  # fmt: skip
    assert "pack written" in said
    pack = read_pack(packs / name)
    tensors = read_tensors(pack)
    assert ("semantics.duotok.centroids" in tensors) == (way == "clusters")
    stages = pack.config["network"]
    assert stages["semantic"]["rate"] == stages["coarse"]["sources"][1]["rate"] == 25
    if way == "own tokens":
        assert tensors["semantic.conditions.vocal"].shape == (1, 5_001, 8)
        assert tensors["semantic.prediction"].shape == (1, 5_001, 8)
        assert "semantic.heads" not in tensors

    # Live, in the fused step as in torch.
    played = {}
    for backend in ("float32", "torch"):
        stream = build(pack.config, tensors, "cpu", backend)
        player = Player(stream, session(chunk=0.4, visibility=0.4, seed=3), voice(4.0))
        play([player], 8)
        played[backend] = player.codes()
        assert np.abs(player.audio()).max() > 0
    np.testing.assert_array_equal(played["float32"], played["torch"])
    soundfile.write(lab / "voice.wav", voice(2.0)[0], 24_000)
    backline(
        "render", lab / "voice.wav", "-o", lab / "b.wav", "-p", name, "--packs", packs, "--device", "cpu",
        "--clip", "paper",
    )  # fmt: skip
    assert len(soundfile.read(lab / "b.wav")[0]) == 48_000


def test_tables_begin_with_what_the_tokenizer_knows(lab: Path) -> None:
    from backline.models.hafm.interleaved.config import three_stages
    from backline.training.interleaved import begin_with

    part = own_tokens(read_semantics_part(f"tokenizer:{lab / 'tokenizer.safetensors'}", PackRegistry()))
    vectors = {}
    for name, role in (("vocal", "vocals"), ("instrumental", "accompaniment")):
        encoder = load_encoder(part.table, part.tensors, "cpu", role)
        assert encoder.frame_rate == Fraction(25)
        vectors[name] = encoder.token_vectors()
    assert not torch.equal(vectors["vocal"], vectors["instrumental"])
    stages = three_stages(**STAGES["toy"], vocabulary=5_000, rate=25, codebooks=4, entries=64, code_width=8)
    network = StageNetwork(stages.stages()["semantic"])
    begin_with(network, "instrumental", vectors)
    for table, name in ((network.conditions["vocal"], "vocal"), (network.prediction, "instrumental")):
        cosine = torch.cosine_similarity(table[0, :-1], vectors[name], dim=1)
        assert cosine.min().item() > 0.9999
        assert table[0, :-1].square().sum(1).mean().item() == pytest.approx(1, rel=1e-4)


def test_only_a_tokenizer_has_tokens_of_its_own() -> None:
    with pytest.raises(ValueError, match="whisper has no tokens of its own: only a tokenizer has, use pack:duotok"):
        own_tokens(Component({"kind": "whisper"}, {}))
    with pytest.raises(ValueError, match="65536 tokens, HAFM learns 32768 at most: fit clusters"):
        own_tokens(Component({"kind": "duotok", "entries": 65_536}, {}))
