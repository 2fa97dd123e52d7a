"""A whole DuoTok pack, trained at toy size: parts that follow each other, what a run refuses, what comes out."""

import dataclasses
import shutil
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from backline.codecs.duotok.load import load as load_tokenizer
from backline.codecs.duotok.load import packed as packed_tokenizer
from backline.codecs.vae.load import packed as packed_vae
from backline.corpus.songs import Songs
from backline.models.duotok.config import TINY
from backline.models.duotok.load import codebooks, load
from backline.packs.importers.checkpoint import Component
from backline.packs.pack import read_pack, read_tensors, write_pack
from backline.packs.parts import read_part, save_part
from backline.packs.quantized import quantize
from backline.training import duotok_lm as lm
from backline.training.duotok_pack import (
    LM_FILE,
    TOKENIZER_FILE,
    DuoPackRecipe,
    language_model_card,
    renderers_part,
    tokenizer_of,
    tokenizer_of_run,
    tokenizing,
    train_duotok_pack,
    train_language_model,
    with_language_model,
)
from backline.training.duotok_stages import DuoTokRecipe, best_tokenizer
from backline.training.loop import LoopConfig
from tests.support import toy_mge
from tests.support.toy_duotok import TOY
from tests.support.toy_renderer import toy_vae

SIZES, SONGS = TOY.tokenizer, cast(Songs, toy_mge.Tones())
LM = replace(
    lm.TRAININGS["tiny"], lm=replace(TINY, entries=SIZES.entries, code_width=SIZES.code_dim), rows=2, seconds=2.0
)


def recipe(folder: Path, **changes: object) -> DuoPackRecipe:
    vae = folder / "vae.safetensors"
    if not vae.exists():
        table, tensors = packed_vae(toy_vae(), torch.float32)
        save_part(Component(table, quantize(tensors)), vae)
    tokenizer = DuoTokRecipe(SONGS, training=TOY, held_out_songs=2, songs_per_shard=2)
    made = DuoPackRecipe(tokenizer, LM, "tiny", steps=2, device="cpu", vae=vae)
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run folder and what was said on the way."""
    folder, said = tmp_path_factory.mktemp("run"), list[str]()
    train_duotok_pack(folder, folder / "pack", recipe(folder), progress=said.append)
    return folder, said


def test_a_pack_comes_out_that_plays(trained: tuple[Path, list[str]]) -> None:
    folder, said = trained
    assert said[-1].startswith("pack written to")
    pack = read_pack(folder / "pack")
    stream = load(pack.config, read_tensors(pack), "cpu")
    assert [task.name for task in stream.spec.tasks] == ["accompany", "resynthesis", "tokens", "render"]
    assert {file.path for file in pack.files} == {
        f"{part}.safetensors" for part in ("tokenizer", "lm", "renderer", "vae")
    }
    assert pack.config["card"]["command"].startswith("backline train duotok-pack --steps 2")
    assert set(pack.config["card"]["validation"]) == {"stage 1", "stage 2", "stage 3", "lm", "vocals", "accompaniment"}
    # All that learnt from tokens hears the very tokenizer that the pack has.
    tokenizer = load_tokenizer(read_part(folder / TOKENIZER_FILE).table, read_part(folder / TOKENIZER_FILE).tensors)
    for name, value in tokenizer.state_dict().items():
        torch.testing.assert_close(stream.tokenizer.state_dict()[name], value, rtol=0, atol=0)
    assert stream.lm is not None
    assert "lm.tokens" not in read_tensors(pack)
    spread = codebooks(tokenizer).std(dim=(1, 2))
    assert (stream.lm.network.tokens[:, :-1].std(dim=(1, 2)) - 1).abs().max() < 0.1
    assert (spread > 0).all()


def test_a_run_goes_on_part_by_part_and_does_nothing_twice(trained: tuple[Path, list[str]]) -> None:
    folder, _ = trained
    before = (folder / TOKENIZER_FILE).read_bytes(), (folder / LM_FILE).read_bytes()
    said: list[str] = []
    train_duotok_pack(folder, folder / "again", recipe(folder), ("lm",), said.append)
    assert before == ((folder / TOKENIZER_FILE).read_bytes(), (folder / LM_FILE).read_bytes())
    one, other = (read_pack(folder / name) for name in ("pack", "again"))
    assert [file.digest for file in one.files] == [file.digest for file in other.files]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(ValueError, match="train the part 'tokenizer' first"):
        train_duotok_pack(tmp_path, tmp_path / "pack", recipe(tmp_path), ("lm",), said.append)
    with pytest.raises(ValueError, match="no such part: network"):
        train_duotok_pack(tmp_path, tmp_path / "pack", recipe(tmp_path), ("network",), said.append)
    train_duotok_pack(tmp_path, tmp_path / "pack", recipe(tmp_path), ("tokenizer",), said.append)
    assert "lm, renderers is missing" in said[-1]
    assert not (tmp_path / "pack").exists()
    with pytest.raises(ValueError, match="name it with --vae"):
        train_duotok_pack(tmp_path, tmp_path, recipe(tmp_path, vae=tmp_path / "no"), ("renderers",), said.append)


def test_another_tokenizer_is_refused_once_something_has_learnt_from_it(
    trained: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder, _ = trained
    part = read_part(folder / TOKENIZER_FILE)
    other = {name: value + (0.1 if "codebook" in name else 0.0) for name, value in part.tensors.items()}
    loop = LoopConfig(folder / "lm", steps=3)
    with pytest.raises(ValueError, match="use another run folder"):
        train_language_model(folder, tokenizing(Component(part.table, other), SONGS), LM, loop, "cpu", print)


def test_a_tokenizer_that_has_been_trained_further_is_renewed_or_refused(
    trained: tuple[Path, list[str]], tmp_path: Path
) -> None:
    run = shutil.copytree(trained[0], tmp_path / "run")
    before = (run / TOKENIZER_FILE).read_bytes()
    best = torch.load(run / "stage-3" / "best.pt", weights_only=False)
    best["state"]["model"]["tokenizer.tracks.vocals.codebook.map.bias"] += 1.0  # as more steps would
    torch.save(best, run / "stage-3" / "best.pt")
    for part in ("lm", "renderers"):
        with pytest.raises(ValueError, match=r"stage 3 of .* has been trained further since lm, stage-4 learnt"):
            train_duotok_pack(run, tmp_path / "pack", recipe(run), (part,))
    assert (run / TOKENIZER_FILE).read_bytes() == before
    shutil.rmtree(run / "lm")
    shutil.rmtree(run / "stage-4")
    assert renderers_part(run, recipe(run), print)
    wanted = packed_tokenizer(best_tokenizer(run, SIZES))[1]
    part = read_part(run / TOKENIZER_FILE)
    name = "tokenizer.tracks.vocals.codebook.map.bias"
    torch.testing.assert_close(part.tensors[name], wanted[name])
    renewed = (run / TOKENIZER_FILE).read_bytes()
    assert renewed != before
    assert renderers_part(run, recipe(run), print), "and goes on from there"
    assert (run / TOKENIZER_FILE).read_bytes() == renewed


def test_a_tokenizer_that_was_written_has_its_own_sizes(trained: tuple[Path, list[str]], tmp_path: Path) -> None:
    run = shutil.copytree(trained[0], tmp_path / "run")
    before = (run / TOKENIZER_FILE).read_bytes()
    small = DuoTokRecipe()
    assert tokenizer_of_run(run, small).table["width"] == SIZES.width
    assert (run / TOKENIZER_FILE).read_bytes() == before
    (run / TOKENIZER_FILE).unlink()
    with pytest.raises(ValueError, match="use the --size it was trained with"):
        tokenizer_of_run(run, small)


def test_a_pack_gets_another_language_model_and_keeps_the_rest(trained: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, _ = trained
    pack = read_pack(folder / "pack")
    token_maker = tokenizing(tokenizer_of(pack), SONGS)
    assert train_language_model(tmp_path, token_maker, LM, LoopConfig(tmp_path / "lm", steps=3), "cpu", print)
    write_pack(tmp_path / "new", *with_language_model(pack, tmp_path, language_model_card(tmp_path, SONGS)))
    new = read_pack(tmp_path / "new")
    digests = [{file.path: file.digest for file in each.files} for each in (pack, new)]
    assert {path for path in digests[0] if digests[0][path] != digests[1][path]} == {"lm.safetensors"}
    assert new.config["card"]["lm"]["data"] == "tones"
    assert [path.name for path in tmp_path.glob("tokens-*")] == [f"tokens-{token_maker.fingerprint}"]


def test_tokens_of_other_songs_or_of_another_tokenizer_are_deleted(tmp_path: Path) -> None:
    from backline.training.duotok_tokens import Tokenizing, tokens_folder

    first = Tokenizing(None, SONGS, "a")  # type: ignore[arg-type]
    assert tokens_folder(tmp_path, first) == tokens_folder(tmp_path, dataclasses.replace(first))
    other = tokens_folder(tmp_path, dataclasses.replace(first, digest="b"))
    assert list(tmp_path.iterdir()) == [other]
    assert np.array_equal(first.fingerprint, first.fingerprint)
