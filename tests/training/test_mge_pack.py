"""The whole recipe of an MGE-LDM pack at toy size, with a VAE and towers that are lent."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from backline.codecs.vae.config import SpectralConfig
from backline.codecs.vae.load import load as load_vae
from backline.codecs.vae.load import packed as packed_vae
from backline.codecs.vae.spectral import SpectralVae
from backline.models.mge.minilm import MiniLMMissing
from backline.models.mge.network import read_network
from backline.models.mge.towers import Towers, TowersConfig, TowersNetwork, load_towers
from backline.packs.importers.checkpoint import Component
from backline.packs.pack import load_stream, read_pack, read_tensors
from backline.packs.parts import read_part, save_part
from backline.packs.quantized import quantize, restore
from backline.training import mge_pack
from backline.training.loop import read_log
from backline.training.mge_pack import MgeRecipe, contents, network_part, train_mge_pack
from backline.training.towers import TowersTraining
from backline.training.towers import packed as packed_towers
from tests.support.playing import play, running
from tests.support.toy_mge import Tones
from tests.support.wire import noise
from tests.training.test_vae import TOY_CODEC

TOWERS = TowersConfig(width=8, bands=8, window=2048, hop=1920, channels=(4, 8), buckets=64, gram_width=4)


class Words:
    """In MiniLM's place: a text's letters, counted."""

    def __call__(self, texts: list[str]) -> Tensor:
        return torch.nn.functional.normalize(
            torch.stack(
                [torch.bincount(torch.tensor(list(text.encode())), minlength=384)[:384].float() for text in texts]
            )
        )


@pytest.fixture(scope="module")
def lent(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Files of a VAE and of towers that know nothing."""
    folder = tmp_path_factory.mktemp("lent")
    torch.manual_seed(0)
    table, tensors = packed_vae(SpectralVae(SpectralConfig(TOY_CODEC, 6)))
    save_part(Component(table, quantize(tensors)), folder / "vae.safetensors")  # as `train vae` does
    save_part(Component(*packed_towers(TowersNetwork(TOWERS))), folder / "towers.safetensors")
    return folder / "vae.safetensors", folder / "towers.safetensors"


def recipe(lent: tuple[Path, Path], **changes: Any) -> MgeRecipe:
    vae, towers = lent
    made = MgeRecipe(
        Tones(), steps=2, device="cpu", size="tiny", vae=vae, towers=towers, minilm=Words(), held_out_songs=2,  # type: ignore[arg-type]
        songs_per_shard=2, towers_training=TowersTraining(TOWERS, rows=4, songs=4, phrases=8),
    )  # fmt: skip
    return replace(made, **changes)


@pytest.mark.slow  # a process starts
def test_a_network_is_trained_in_lent_latents_and_goes_on(lent: tuple[Path, Path], tmp_path: Path) -> None:
    assert not network_part(tmp_path, recipe(lent))
    assert not network_part(tmp_path, recipe(lent, steps=4))
    log = read_log(tmp_path / "network")
    assert [entry["step"] for entry in log if entry["kind"] == "validation"] == [2, 4]
    assert not recipe(lent, steps=4).unfinished(tmp_path, "network")

    pack = train_mge_pack(tmp_path, tmp_path / "pack", recipe(lent, steps=4))
    files = [file.path for file in read_pack(pack).files]
    assert files == ["mge.safetensors", "towers.safetensors", "vae.safetensors"]
    learnt_in, played = read_part(lent[0]).tensors, read_tensors(read_pack(pack))
    assert all(torch.equal(tensor.float(), played[name].float()) for name, tensor in learnt_in.items())
    stream = load_stream(read_pack(pack))
    assert stream.spec == read_pack(pack).spec()
    assert [task.name for task in stream.spec.tasks] == ["extract", "impute", "accompany", "generate"]
    with running(mge=stream) as engine:
        audio = noise(1, 20_000)
        heard = play(engine, "mge", audio, 4096, visibility_seconds=0.16)
    assert np.abs(heard.audio(0) + heard.audio(1) - audio).max() < 1e-5

    table, stored = contents(tmp_path, recipe(lent, steps=4))
    tensors = restore(stored)
    wanted = recipe(lent).training(mge_pack.latents_of(tmp_path, recipe(lent))).mge
    assert (wanted.network.channels, wanted.network.condition, wanted.window_frames) == (6, 8, 8)
    network = read_network(wanted, {name: tensor.float() for name, tensor in tensors.items()})
    best = torch.load(tmp_path / "network" / "best.pt", weights_only=False)["state"]["model"]
    for name, tensor in network.state_dict().items():
        assert torch.allclose(tensor, best[name], atol=2e-2 * best[name].abs().max().item()), name
    assert load_vae(table["vae"], tensors).latent_channels == 6
    assert load_towers(tensors, TOWERS).dimension == 8
    assert table["card"]["steps"] == {"network": 4}
    assert "Apache-2.0" in table["card"]["text"]
    assert table["card"]["command"] == (
        "backline train mge-pack --steps 4 --seed 0 --world tones --size tiny --vae vae.safetensors "
        "--towers towers.safetensors"
    )

    other = tmp_path / "others.safetensors"
    torch.manual_seed(1)
    save_part(Component(*packed_towers(TowersNetwork(TOWERS))), other)
    with pytest.raises(ValueError, match="use another run folder"):
        network_part(tmp_path, recipe(lent, towers=other))


def test_phrases_are_read_by_both_towers_that_users_may_have(lent: tuple[Path, Path]) -> None:
    latents = mge_pack.Latents(*lent, Words())  # type: ignore[arg-type]
    assert [towers.hears for towers in latents.readers] == ["minilm", "n-grams"]
    assert isinstance(latents.towers, Towers)


def test_the_minutes_are_shared_by_what_is_trained(lent: tuple[Path, Path]) -> None:
    whole = MgeRecipe(Tones(), minutes=100)  # type: ignore[arg-type]
    assert {part: whole.seconds(part) / 60 for part in whole.parts} == pytest.approx(
        {"vae": 35, "towers": 8, "network": 57}
    )
    alone = recipe(lent, steps=None, minutes=10)
    assert alone.parts == ("network",)
    assert alone.seconds("network") == 600


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (("codec",), "no such part: codec; use vae, towers, network"),
        (("vae",), "vae comes from a file: train another part"),
    ],
)
def test_wrong_parts_are_refused(lent: tuple[Path, Path], tmp_path: Path, parts: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        train_mge_pack(tmp_path, tmp_path / "pack", recipe(lent), parts)


@pytest.mark.parametrize("part", ["vae", "towers"])
def test_a_file_of_something_else_is_refused_before_anything_is_trained(
    lent: tuple[Path, Path], tmp_path: Path, part: str
) -> None:
    swapped = dict(zip(("towers", "vae"), lent, strict=True))
    with pytest.raises(ValueError, match=rf"{swapped[part].name} holds no (VAE|towers): .*; give"):
        train_mge_pack(tmp_path / "run", tmp_path / "pack", recipe(lent, **{part: swapped[part]}))
    assert not (tmp_path / "run").exists()


def test_without_minilm_no_vae_is_trained_for_towers_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere() -> None:
        raise MiniLMMissing("MiniLM is not installed: install it")

    monkeypatch.setattr(mge_pack, "read_minilm", nowhere)
    with pytest.raises(MiniLMMissing, match="install it"):
        train_mge_pack(tmp_path / "run", tmp_path / "pack", MgeRecipe(Tones()))  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_the_network_needs_vae_and_towers(lent: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train the part 'towers' first, or name a file with --towers"):
        network_part(tmp_path, recipe(lent, towers=None))


def test_towers_of_another_rate_are_refused(lent: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "towers.safetensors"
    save_part(Component(*packed_towers(TowersNetwork(replace(TOWERS, sample_rate=24_000)))), other)
    with pytest.raises(ValueError, match="48000 Hz and the towers 24000 Hz"):
        network_part(tmp_path, recipe(lent, towers=other))


def test_there_are_three_sizes() -> None:
    with pytest.raises(ValueError, match="use paper, small, tiny"):
        MgeRecipe(Tones(), size="huge")  # type: ignore[arg-type]
