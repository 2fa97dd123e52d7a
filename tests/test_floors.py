"""Imports go down the floors of the house only."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "server" / "backline"
FLOORS = ["kernels", "nn", "codecs", "models", "packs", "engine", "service", "cli"]  # bottom to top
BESIDE = {"training", "music", "evaluation", "corpus"}  # may use any floor below service; only cli uses them
BELOW = {"corpus": {"music"}}  # of those beside, what one may use; the others use each other


def allowed(source: str) -> set[str]:
    """The parts of the package that `source` may import."""
    if source == "cli":
        return {*FLOORS, *BESIDE}
    if source in BESIDE:
        return {source, *BELOW.get(source, BESIDE), *FLOORS[: FLOORS.index("service")]}
    return set(FLOORS[: FLOORS.index(source) + 1])


def imported_parts(path: Path) -> set[str]:
    """First-level parts of `backline` that the file imports, and foreign top-level packages as they are named."""
    parts: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: import by the full name, so that the floor can be read"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        parts |= {name.split(".")[1] if name.startswith("backline.") else name.split(".")[0] for name in names}
    return parts


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    source = path.relative_to(PACKAGE).parts[0]
    assert source in {*FLOORS, *BESIDE}, f"{source} is no floor of the house: see DESIGN 1"
    wrong = (imported_parts(path) & {*FLOORS, *BESIDE}) - allowed(source)
    assert not wrong, f"{path.name} is on floor {source!r} and imports {sorted(wrong)}"


def test_kernels_do_without_torch() -> None:
    for path in (PACKAGE / "kernels").glob("*.py"):
        assert "torch" not in imported_parts(path), path


def test_the_client_needs_neither_torch_nor_the_server() -> None:
    client = PACKAGE.parent.parent / "plugin_client" / "python" / "backline_client"
    for path in client.rglob("*.py"):
        assert not imported_parts(path) & {"torch", "numba", "backline", *FLOORS}, path
