"""Generates the gRPC stubs from protos/ before packages are looked for; all else is in pyproject.toml."""

from pathlib import Path

from grpc_tools import protoc
from setuptools import setup

STUBS = Path(__file__).parent / "server" / "backline_protos"


def generate_stubs() -> None:
    for folder in (STUBS, STUBS / "v1"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text('"""Generated from protos/ by the build; never edited."""\n')
    # The path mapping gives the stubs a Python package of their own: `backline` itself is the server's.
    arguments = ["protoc", "-Ibackline_protos/v1=protos/backline/v1", "backline_protos/v1/backline.proto"]
    arguments += [f"--{kind}_out=server" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed on protos/backline/v1/backline.proto: see its message above")


generate_stubs()
setup()
