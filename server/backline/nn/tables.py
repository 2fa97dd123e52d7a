"""Tables of pack.toml made the dataclasses that they describe: checked by their annotations, every fault at once.

    @dataclass(frozen=True)
    class Sizes:
        layers: Layers
        width: Width = 256

    read_table(Sizes, {"layers": 10**9, "depth": 3}, "network")
    # TableError: [network] has unknown entries ['depth']: known are ['layers', 'width'];
    #             [network] layers is 1000000000: use 1 to 128

The bounds leave ten times the largest published sizes. They are there so that a number in a file that nobody vouches
for is refused before anything is made of it. What binds several fields is the dataclass's own `__post_init__` to say,
as a ValueError. msgspec checks each value: strictly, so a text or a truth value is no number.
"""

from __future__ import annotations

import dataclasses
import math
import re
import reprlib
from collections.abc import Mapping
from fractions import Fraction
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

Layers = Annotated[int, Meta(ge=1, le=128)]
Blocks = Annotated[int, Meta(ge=0, le=256)]  # of what may be left out
Width = Annotated[int, Meta(ge=1, le=16_384)]
FeedForward = Annotated[int, Meta(ge=1, le=65_536)]
Heads = Annotated[int, Meta(ge=1, le=256)]
HeadWidth = Annotated[int, Meta(ge=1, le=1024)]
Codebooks = Annotated[int, Meta(ge=1, le=128)]
Entries = Annotated[int, Meta(ge=1, le=65_536)]  # of a codebook or a vocabulary
Bands = Annotated[int, Meta(ge=1, le=1024)]
SampleRate = Annotated[int, Meta(ge=1000, le=192_000)]  # Hz
FrameRate = Annotated[int, Meta(ge=1, le=1000)]  # frames a second
Samples = Annotated[int, Meta(ge=1, le=65_536)]  # of a hop or of a transform's window
Positions = Annotated[int, Meta(ge=1, le=65_536)]  # of a window of attention
Kernel = Annotated[int, Meta(ge=1, le=1023)]
Expansion = Annotated[int, Meta(ge=1, le=64)]
Share = Annotated[float, Meta(ge=0, lt=1)]
Epsilon = Annotated[float, Meta(gt=0, le=1)]
Seconds = Annotated[Fraction, Meta(ge=0, le=60)]

LONGEST_NUMBER = 40  # characters of a fraction that is written as text
FRACTION = re.compile(r"[+-]?\d+(\.\d+|/\d+)?")

Table = TypeVar("Table")


class TableError(ValueError):
    """A table that describes nothing that can be made. `problems` are sentences that each name one fault."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problems))


def read_table(kind: type[Table], table: Any, name: str, known_elsewhere: tuple[str, ...] = ()) -> Table:
    """The dataclass `kind` that `table` describes; what the table leaves out has its default.

    Args:
        kind: a dataclass of numbers, texts, truth values, fractions, other such dataclasses, and tuples of these.
        table: as tomllib gives it, or `asdict` of a `kind`.
        name: of the table in pack.toml, for messages; "": of all of it.
        known_elsewhere: entries that belong to the table and not to `kind`.

    Raises:
        TableError: names every entry that is missing, unknown, of the wrong kind or out of range.
    """
    problems: list[str] = []
    made = _table(kind, table, name, problems, known_elsewhere)
    if problems or made is None:
        raise TableError(problems)
    return made


def shortened(value: Any) -> str:
    """`value` as a message shows it: whatever it is, on one line, of bounded length."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 128:
        return f"a number of {int(value.bit_length() * math.log10(2)) + 1} digits"
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    short.maxlevel = 2
    try:
        return short.repr(value)
    except (ValueError, RecursionError):  # a number of too many digits, somewhere inside
        return f"a {type(value).__name__}"


def _table(
    kind: type[Table], table: Any, name: str, problems: list[str], known_elsewhere: tuple[str, ...] = ()
) -> Table | None:
    where = f"[{name}] " if name else ""
    if not isinstance(table, Mapping):
        problems.append(f"{where}is {shortened(table)}: make it a table")
        return None
    before = len(problems)
    hints = _hints(kind)
    if unknown := sorted(table.keys() - hints.keys() - set(known_elsewhere)):
        problems.append(f"{where}has unknown entries {shortened(unknown)}: known are {sorted(hints)}")
    if missing := [field.name for field in _required(kind) if field.name not in table]:
        problems.append(f"{where or 'pack.toml '}lacks {', '.join(missing)}: give all of them")
    values = {key: _value(hint, table[key], name, key, problems) for key, hint in hints.items() if key in table}
    if len(problems) > before:
        return None
    try:
        return kind(**values)
    except ValueError as error:
        problems.append(f"{where}{error}")
        return None


def _value(hint: Any, value: Any, name: str, key: str, problems: list[str]) -> Any:
    """`value` as `hint` wants it; a problem, and nothing of use, where it is something else."""
    base, meta = _parts(hint)
    where = f"[{name}] " if name else ""
    if dataclasses.is_dataclass(base):
        assert isinstance(base, type)
        return _table(base, value, f"{name}.{key}".removeprefix("."), problems)
    if get_origin(base) is tuple:
        least, most = meta.min_length or 0, meta.max_length or 1024
        if not isinstance(value, list | tuple) or not least <= len(value) <= most:
            problems.append(f"{where}{key} is {shortened(value)}: list {least} to {most} of them")
            return ()
        inner = get_args(base)[0]
        return tuple(_value(inner, entry, name, f"{key}[{at}]", problems) for at, entry in enumerate(value))
    try:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError
        if base is Fraction:
            return _fraction(value, meta)
        return msgspec.convert(value, Annotated[base, meta])
    except (ValueError, OverflowError, ZeroDivisionError):  # msgspec.ValidationError is a ValueError
        problems.append(f"{where}{key} is {shortened(value)}: use {_words(base, meta, value)}")
        return None


def _fraction(value: Any, meta: Meta) -> Fraction:
    """A number, or a text like "12/25"; of a float the fraction that was meant."""
    if isinstance(value, str):
        made = read_fraction(value)
    elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12:
        made = Fraction(str(value))
    else:
        raise ValueError
    msgspec.convert(float(made), Annotated[float, meta])
    return made


def read_fraction(text: str) -> Fraction:
    """Such as "12/25" or "0.48". Raises ValueError or ZeroDivisionError: it is none, or too long."""
    if len(text) > LONGEST_NUMBER or not FRACTION.fullmatch(text):
        raise ValueError(f"{shortened(text)} is no fraction")
    return Fraction(text)


def _words(base: Any, meta: Meta, value: Any) -> str:
    """What to use instead of `value`."""
    if meta.description:
        return meta.description
    if get_origin(base) is Literal:
        return f"one of {', '.join(map(str, get_args(base)))}"
    if base in (int, float, Fraction):
        number = isinstance(value, int if base is int else (int, float)) and not isinstance(value, bool)
        if base is Fraction and not number:
            return f'a number or a fraction as in "12/25", {_range(meta)}'
        if not number:
            return f"a {'whole ' if base is int else ''}number, {_range(meta)}"
        return _range(meta)
    if base is bool:
        return "true or false"
    return f"a text of {meta.min_length or 0} to {meta.max_length} characters" if meta.max_length else "a text"


def _range(meta: Meta) -> str:
    least = f"more than {meta.gt:g}" if meta.gt is not None else "" if meta.ge is None else f"{meta.ge:g}"
    most = f"less than {meta.lt:g}" if meta.lt is not None else "" if meta.le is None else f"{meta.le:g}"
    if least and most:
        return f"{least} {'and' if meta.lt is not None else 'to'} {most}"
    return f"{least} or more" if least else f"up to {most}" if most else "finite"


def _parts(hint: Any) -> tuple[Any, Meta]:
    """A type without its annotation, and the annotation; None besides something else is left out."""
    if get_origin(hint) in (Union, UnionType):
        (hint,) = [part for part in get_args(hint) if part is not NoneType]
    if get_origin(hint) is Annotated:
        base, *rest = get_args(hint)
        return base, next((entry for entry in rest if isinstance(entry, Meta)), Meta())
    return hint, Meta()


def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _required(kind: type) -> tuple[dataclasses.Field[Any], ...]:
    return tuple(
        field
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    )
