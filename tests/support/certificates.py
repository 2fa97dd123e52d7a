"""An authority of the test's own, and certificates that it signs, by the `openssl` program."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


class Authority:
    """Its certificate is at `certificate`."""

    def __init__(self, folder: Path, name: str) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("the openssl program is not installed")
        self._folder, self.name = folder, name
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = folder / f"{name}.pem"
        self._openssl("req", "-x509", *KEY, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")

    def sign(self, name: str, names: str = "DNS:localhost,IP:127.0.0.1", days: int = 30) -> tuple[Path, Path]:
        """A certificate for these names that holds so many days (fewer than 0: no more), and its private key."""
        self._openssl("req", *KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (self._folder / "names").write_text(f"subjectAltName={names}\n")
        signing = ("-CA", f"{self.name}.pem", "-CAkey", f"{self.name}.key", "-CAcreateserial", "-extfile", "names")
        self._openssl("x509", "-req", "-in", f"{name}.csr", *signing, "-days", str(days), "-out", f"{name}.pem")
        return self._folder / f"{name}.pem", self._folder / f"{name}.key"

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self._folder, check=True, capture_output=True)
