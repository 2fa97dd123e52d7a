"""Names that packs and servers give to ports and parameters: they become file names, so they are never paths."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

LONGEST_NAME, MOST_BYTES = 64, 128  # characters, and bytes in UTF-8
NAME = re.compile(r"\w(?:[\w .()+-]*[\w()+-])?")  # begins and ends with what no file system drops or hides
RESERVED = frozenset(  # by Windows, with any ending
    ["aux", "con", "nul", "prn", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))]
)


def name_problem(name: str) -> str:
    """Why `name` can be no name of a port, a parameter or a file, and what to use instead; "" where it can."""
    plain = NAME.fullmatch(name) and name.partition(".")[0].strip().lower() not in RESERVED
    if plain and len(name) <= LONGEST_NAME and len(name.encode()) <= MOST_BYTES:
        return ""
    return (
        f"{name[:LONGEST_NAME]!a} is no name: use up to {LONGEST_NAME} letters, digits, spaces and _ . - + ( ), "
        "beginning with a letter or digit, and none that Windows reserves (con, nul, com1)"
    )


def names_problem(names: Sequence[str]) -> str:
    """As `name_problem`, of several that stand side by side: no two may name one file, whatever the system."""
    for name in names:
        if problem := name_problem(name):
            return problem
    most = Counter(unicodedata.normalize("NFKC", name).casefold() for name in names).most_common(1)
    if most and most[0][1] > 1:
        twins = [name for name in names if unicodedata.normalize("NFKC", name).casefold() == most[0][0]]
        return f"{' and '.join(map(repr, twins[:2]))} are one name on some systems: give each its own"
    return ""
