"""Imports go down the floors of the house only."""

import ast
import re
from pathlib import Path

import pytest

from backline.models.families import FAMILIES

PACKAGE = Path(__file__).parent.parent / "server" / "backline"
# What serves, from bottom to top: each floor may use those below it.
SERVING = ["kernels", "nn", "codecs", "models", "packs", "engine", "service", "doors"]
# What makes and judges packs, from bottom to top as well: the floor of the others up to which a part may look, and the
# parts of its own kind that it may use. Training and evaluation stand side by side.
WORKSHOP = {
    "music": ("kernels", set[str]()),
    "measures": ("packs", {"music"}),
    "corpus": ("engine", {"music", "measures"}),
    "training": ("packs", {"music", "measures", "corpus"}),
    "evaluation": ("engine", {"music", "measures", "corpus"}),
}
PARTS = {*SERVING, *WORKSHOP, "cli"}
# Rooms within a floor: folder -> its rooms, and what each may use of the others. Only the doors, modules of the folder
# that no room imports, use them.
ROOMS = {
    "models": {
        "windowed": set[str](),
        "stems": {"windowed"},
        "spleeter": {"windowed"},
        "demucs": {"windowed"},
        "mge": {"windowed"},
        "hafm": set[str](),
        "duotok": {"hafm"},  # whose aligned stage is its language model
    },
    "models/hafm": {"listening": set[str](), "interleaved": set[str](), "aligned": {"listening"}},
}
DOORS = {"models": set[str](), "models/hafm": {"tables", "load", "offline"}}  # families.py names its families in words


def allowed(source: str) -> set[str]:
    """The parts of the package that `source` may import."""
    if source == "cli":
        return PARTS
    if source in WORKSHOP:
        highest, others = WORKSHOP[source]
        return {source, *others, *SERVING[: SERVING.index(highest) + 1]}
    return set(SERVING[: SERVING.index(source) + 1])


def imported(path: Path) -> set[str]:
    """Full names of what the file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: import by the full name, so that the floor can be read"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imported_parts(path: Path) -> set[str]:
    """First-level parts of `backline` that the file imports, and foreign top-level packages as they are named."""
    return {name.split(".")[1] if name.startswith("backline.") else name.split(".")[0] for name in imported(path)}


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    source = path.relative_to(PACKAGE).parts[0]
    assert source in PARTS, f"{source} is no part of the house: give it its floor here"
    wrong = (imported_parts(path) & PARTS) - allowed(source)
    assert not wrong, f"{path.name} is on floor {source!r} and imports {sorted(wrong)}"


def test_the_workshop_has_an_order() -> None:
    seen: set[str] = set()
    for part, (_, others) in WORKSHOP.items():
        assert others <= seen, f"{part} uses {sorted(others - seen)}, which comes later"
        seen.add(part)


@pytest.mark.parametrize("folder", ROOMS)
def test_rooms_are_entered_by_their_doors(folder: str) -> None:
    rooms, doors = ROOMS[folder], DOORS[folder]
    prefix = f"backline.{folder.replace('/', '.')}."
    for path in (PACKAGE / folder).rglob("*.py"):
        place = path.relative_to(PACKAGE / folder).parts[0].removesuffix(".py")
        used = {name.removeprefix(prefix).split(".")[0] for name in imported(path) if name.startswith(prefix)}
        may = {*rooms, *doors} if place in doors else {place, *rooms.get(place, ())}
        wrong = (used & {*rooms, *doors}) - may
        assert not wrong, f"{path.relative_to(PACKAGE)} imports {sorted(wrong)}"


@pytest.mark.parametrize("floor", ["engine", "service"])
def test_no_line_of_the_engine_or_the_service_names_a_model(floor: str) -> None:
    names = set(FAMILIES) - {"codec"}  # which every ledger has, too
    what_all_share = {"errors", "stream", "warm_up"}
    for path in (PACKAGE / floor).glob("*.py"):
        used = {name.split(".")[2] for name in imported(path) if name.startswith("backline.models.")}
        assert used <= what_all_share, f"{path} imports {sorted(used - what_all_share)}"
        for number, line in enumerate(path.read_text().splitlines(), 1):
            named = names & set(re.findall(r"[a-z]+", line.lower()))
            assert not named, f"{path}:{number} names {sorted(named)}"


def test_kernels_do_without_torch() -> None:
    for path in (PACKAGE / "kernels").glob("*.py"):
        assert "torch" not in imported_parts(path), path


def test_the_client_needs_neither_torch_nor_the_server() -> None:
    client = PACKAGE.parent.parent / "plugin_client" / "python" / "backline_client"
    for path in client.rglob("*.py"):
        assert not imported_parts(path) & {"torch", "numba", "backline", *SERVING}, path
