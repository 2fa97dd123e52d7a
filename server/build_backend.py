"""setuptools, which finds the gRPC stubs generated from protos/ when it looks for packages; see pyproject.toml."""

from pathlib import Path

from grpc_tools import protoc
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]
SERVER = Path(__file__).parent


def generate_stubs() -> None:
    """Writes the package `backline_protos`.

    Raises:
        SystemExit: protoc does not take the contract.
    """
    stubs = SERVER / "backline_protos"
    for folder in (stubs, stubs / "v1"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text('"""Generated from protos/ by the build; never edited."""\n')
    # The path mapping gives the stubs a Python package of their own: `backline` itself is the server's.
    arguments = [
        "protoc",
        f"-Ibackline_protos/v1={SERVER.parent}/protos/backline/v1",
        "backline_protos/v1/backline.proto",
    ]
    arguments += [f"--{kind}_out={SERVER}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed on protos/backline/v1/backline.proto: see its message above")


generate_stubs()  # whoever builds imports this first
