"""An MGE-LDM pack: what does not fit is named before anything plays; what fits plays its four tasks."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backline.models import families
from backline.models.errors import PackError
from backline.models.mge.load import load, tiny_random
from backline.models.mge.stream import MgeStream, live_table
from backline.models.windowed.consistency import MASK
from backline.packs.pack import load_stream, read_pack, write_pack
from tests.models.mge.test_stream import CUT, music
from tests.support.playing import play, running

MADE = ["steps", "guidance", "morph", "gain"]
TASKS = {
    "extract": (["source", "rest"], ["consistency", "steps", "guidance", "morph"]),
    "impute": (["source"], MADE),
    "accompany": (["accompaniment"], MADE),
    "generate": (["mix"], MADE),
}


def test_a_pack_says_without_weights_what_it_will_serve() -> None:
    config, tensors = tiny_random()
    spec = load(config, tensors, "cpu").spec
    assert spec == families.describe(config)
    assert [task.name for task in spec.tasks] == list(TASKS)
    for name, (ports, parameters) in TASKS.items():
        done = spec.for_task(name)
        assert [port.name for port in done.ports] == ports
        assert sorted(parameter.name for parameter in done.parameters) == sorted(parameters)
        assert [text.name for text in done.texts] == ["query"]
    (consistency,) = (parameter for parameter in spec.parameters if parameter.name == "consistency")
    assert consistency.default == MASK
    assert spec.texts[0].default in spec.texts[0].suggestions


def test_a_pack_from_disk_lies_in_three_files_and_plays(tmp_path: Path) -> None:
    config, tensors = tiny_random()
    pack = write_pack(tmp_path / "tiny-mge", config, tensors)
    assert [file.path for file in pack.files] == ["mge.safetensors", "towers.safetensors", "vae.safetensors"]
    stream = load_stream(read_pack(tmp_path / "tiny-mge"), rows=3)
    assert isinstance(stream, MgeStream)
    assert stream.capacity == 3
    audio = music(50_000)
    with running(mge=stream) as engine:
        heard = play(engine, "mge", audio, 4_096, **CUT)
    assert np.abs(heard.audio(0) + heard.audio(1) - audio).max() < 1e-5


@pytest.mark.parametrize(
    ("table", "changes", "problem"),
    [
        ("mge", {"window_frames": 3}, "chunk_seconds is 0.16: use a multiple of 0.08 s, a frame, up to 0.08 s"),
        ("vae", {"latent_channels": 6}, "hears 4 channels, the VAE's latents have 6"),
        ("towers", {"width": 16}, "is told 8 dimensions of a text, its reader says 16"),
        ("stream", {"extract_steps": 251}, "extract_steps is 251: use 1 to 250"),
        ("stream", {"guidance": -1}, "guidance is -1: use 0 to 10"),
        ("stream", {"chunk_seconds": "1/7"}, "use a multiple of 0.08 s"),
        ("stream", {"hop": 1}, r"unknown entries \['hop'\]"),
    ],
)
def test_what_the_tables_get_wrong_is_named(table: str, changes: dict[str, Any], problem: str) -> None:
    config, _ = tiny_random()
    config[table] = {**config[table], **changes}
    with pytest.raises(PackError, match=problem):
        families.describe(config)


def test_texts_need_one_who_reads_them() -> None:
    config, _ = tiny_random()
    del config["towers"]
    with pytest.raises(PackError, match=r"it has nothing to hear texts: give one of \[towers\] and \[clap\]"):
        families.describe(config)


def test_every_tensor_that_does_not_fit_is_named_at_once() -> None:
    config, tensors = tiny_random()
    del tensors["mge.dit.out.weight"]
    tensors["vae.expansion.bias"] = torch.zeros(3)
    tensors["towers.more"] = torch.zeros(3)
    with pytest.raises(PackError) as caught:
        load(config, tensors, "cpu")
    for said in ("mge.dit.out.weight", "vae.expansion.bias is [3]", "towers.more is not part"):
        assert said in str(caught.value)


def test_the_small_network_is_played_in_chunks_of_about_a_second() -> None:
    assert live_table(Fraction(2, 25), 64) == {
        "chunk_seconds": "24/25", "guard_seconds": "12/25", "fade_seconds": "1/25"
    }  # fmt: skip


def test_a_pack_may_play_some_of_the_tasks_alone() -> None:
    config, tensors = tiny_random()
    table = live_table(Fraction(2, 25), 8, ("extract",))
    assert table["tasks"] == ["extract"]
    spec = load({**config, "stream": config["stream"] | {"tasks": ["extract"]}}, tensors, "cpu").spec
    assert [task.name for task in spec.tasks] == ["extract"]
    assert [port.name for port in spec.ports] == ["source", "rest"]
    assert "gain" not in {parameter.name for parameter in spec.parameters}
    with pytest.raises(ValueError, match="use extract"):
        spec.for_task("impute")
    with pytest.raises(PackError, match="tasks"):
        load({**config, "stream": config["stream"] | {"tasks": ["sing"]}}, tensors, "cpu")
