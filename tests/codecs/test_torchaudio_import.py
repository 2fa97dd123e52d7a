"""torchaudio's Python code can be used beside a CPU build of torch, and its absence is said clearly."""

import importlib
import subprocess
import sys
from typing import Any

import pytest

from backline.codecs import torchaudio_import
from backline.codecs.torchaudio_import import import_torchaudio


def test_torchaudio_comes_with_its_models() -> None:
    assert import_torchaudio().models.hubert_large is not None


def test_encodec_can_be_imported_after_it() -> None:
    code = (
        "from backline.codecs.torchaudio_import import import_torchaudio; import_torchaudio(); "
        "from encodec import EncodecModel; print(EncodecModel.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "EncodecModel", done.stderr


def test_a_missing_torchaudio_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *_: Any) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    monkeypatch.delitem(sys.modules, "torchaudio", raising=False)
    monkeypatch.delitem(sys.modules, "torchaudio._extension", raising=False)
    torchaudio_import.import_torchaudio.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'backline\[hubert\]'"):
        import_torchaudio()
    torchaudio_import.import_torchaudio.cache_clear()
