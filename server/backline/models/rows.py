"""Rows that share a call and nothing else: what goes wrong with one is its own answer, and the others play on."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from backline.models.errors import NoRowFree, PackError
from backline.models.stream import ChunkInput, ChunkOutput, RowFailed, Stream

MOST_ROWS = 1024


class OfRow(Protocol):
    """What one row is given for one chunk."""

    @property
    def row(self) -> int: ...


Given = TypeVar("Given", bound=OfRow)
Answer = TypeVar("Answer")


def rows_of(config: Mapping[str, Any], usual: int) -> int:
    """How many sessions at once a pack.toml, or whoever serves it, has room for: its `rows`, or as many as usual.

    Raises:
        PackError: that is no number of rows.
    """
    rows = config.get("rows", usual)
    if type(rows) is not int or not 1 <= rows <= MOST_ROWS:
        raise PackError([f"rows is {rows!r}: use 1 to {MOST_ROWS} sessions at once"], str(config.get("name", "")))
    return rows


def free_row(taken: Container[int], capacity: int) -> int:
    """The lowest row of `capacity` that is not taken.

    Raises:
        NoRowFree: all of them are.
    """
    for row in range(capacity):
        if row not in taken:
            return row
    raise NoRowFree(f"all {capacity} rows are taken: close a session")


def one_by_one(
    inputs: Sequence[ChunkInput], chunk: Callable[[ChunkInput], ChunkOutput]
) -> list[ChunkOutput | RowFailed]:
    """`Stream.step` of a model whose rows run one after another."""
    answers = zip(inputs, each(chunk, inputs), strict=True)
    return [RowFailed(given.row, answer) if isinstance(answer, Exception) else answer for given, answer in answers]


def each(function: Callable[[Given], Answer], given: Sequence[Given]) -> list[Answer | Exception]:
    """`function` of every row by itself, or what it raised."""
    answers: list[Answer | Exception] = []
    for job in given:
        try:
            answers.append(function(job))
        except Exception as error:
            answers.append(error)
    return answers


def raised(answer: Answer | Exception) -> Answer:
    """A row's answer. Raises what it failed of."""
    if isinstance(answer, Exception):
        raise answer
    return answer


def together(
    given: Sequence[Given],
    batch: Callable[[Sequence[Given]], Sequence[Answer]],
    snapshot: Callable[[int], Any] = lambda row: None,
    restore: Callable[[int, Any], None] = lambda row, state: None,
) -> list[Answer | Exception]:
    """`batch(given)`; where that raises, every row again from where it stood, alone, so that one row's fault stays its.

    `snapshot` copies a row's state and `restore` puts it back; one row alone needs neither, nor do rows that a call
    leaves where they are.
    """
    if not given:
        return []
    before = [snapshot(job.row) for job in given] if len(given) > 1 else []
    try:
        return list(batch(given))
    except Exception as error:
        if len(given) == 1:
            return [error]
    answers: list[Answer | Exception] = []
    for job, state in zip(given, before, strict=True):
        restore(job.row, state)
        try:
            answers += batch([job])
        except Exception as error:
            answers.append(error)
    return answers


def sounding(answer: ChunkOutput | RowFailed) -> ChunkOutput:
    """What a row has played. Raises what it failed of."""
    if isinstance(answer, RowFailed):
        raise answer.error
    return answer


def whole_chunks(stream: Stream, inputs: Sequence[ChunkInput]) -> list[ChunkOutput | RowFailed]:
    """`stream.step`, again and again for the rows whose chunks take several steps, until all are whole."""
    answers: dict[int, ChunkOutput | RowFailed] = {}
    left = list(inputs)
    while left:
        for answer in stream.step(left):
            answers[answer.row] = answer
        left = [nothing_new(given) for given in left if _takes_another_step(answers[given.row])]
    return [answers[given.row] for given in inputs]


def nothing_new(given: ChunkInput) -> ChunkInput:
    """What a row gets for a further step of the chunk that it was given this for."""
    frames = None if given.frames is None else given.frames[:0]
    return replace(given, audio=given.audio[:, :0], notes=(), frames=frames)


def _takes_another_step(answer: ChunkOutput | RowFailed) -> bool:
    return isinstance(answer, ChunkOutput) and not answer.advanced


def check_tokens(tokens: NDArray[np.int64], entries: int, what: str) -> None:
    """Refuses tokens that a table of `entries` does not hold: on a GPU such an index would end the process.

    Raises:
        ValueError: names the token.
    """
    if tokens.size and not 0 <= int(tokens.min()) <= int(tokens.max()) < entries:
        wrong = tokens[(tokens < 0) | (tokens >= entries)].flat[0]
        raise ValueError(f"token {wrong} of {what}: its table has {entries} entries")
