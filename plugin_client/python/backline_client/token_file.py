"""Token files (`.duo`): a song as codec frames, packed to the bit; nothing of it is ever whole in memory.

    with TokenWriter(open("song.duo", "wb"), TokenHeader.of(client.pack("duotok"), sample_rate)) as file:
        for event in rendering.events():
            if isinstance(event, Frames):
                file.add(event)
        file.finish(samples)

    with TokenReader("song.duo") as file:          # whole, and of one piece, or TokenFileError
        file.check(client.pack("duotok"))
        for frames in file.frames():
            session.change(frames)

The file, little-endian: MAGIC, the fixed part of the header (FIXED), the pack's name, each codebook's size, name and
track, a text being its length in one byte and UTF-8; then frame after frame the codes, each in as many bits as its
codebook needs, highest first; then the CRC-32 of the codes followed by the header. Any pack whose tokens are whole
frames fits: 30 minutes of two codebooks of 32,768 at 25 Hz are 169 kB.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backline_client.wire import Frames
from backline_protos.v1 import backline_pb2 as pb

SUFFIX = ".duo"
MAGIC = b"\x89DUO\r\n\x1a\n"  # as PNG's: a transfer that takes it for a text damages it
VERSION = 1
FIXED = struct.Struct("<HB32sIIIQQ")  # version, codebooks, tokenizer, rate as a fraction, sample rate, frames, samples
SIZE, CHECKSUM = struct.Struct("<I"), struct.Struct("<I")
TOGETHER = 8  # frames that are whole bytes, whatever their bits
SENT_CODES = 8_192  # in a message, which may have 64 KiB and takes up to five bytes for each
BLOCK = 4_096  # frames that are read at a time
MOST_CODEBOOKS, MOST_RATE = 128, 10_000
SAMPLE_RATES = (8_000, 192_000)  # Hz, as the wire contract has it
LONGEST_HEADER = len(MAGIC) + FIXED.size + 256 + MOST_CODEBOOKS * (SIZE.size + 2 * 256)  # bytes

Codes = NDArray[np.int64]  # [frame, codebook]


class TokenFileError(ValueError):
    """A file, or frames, that make no song of tokens; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class TokenBook:
    """One codebook: every frame holds a code of it."""

    name: str
    size: int  # entries
    track: str = ""  # whose sound it says

    @property
    def bits(self) -> int:
        """Of a code in a file."""
        return max(1, (self.size - 1).bit_length())


@dataclass(frozen=True)
class TokenHeader:
    """What a file says of its frames."""

    pack: str  # that made them
    tokenizer: str  # what its tokens mean, see `Pack.tokenizer`: SHA-256 in hexadecimal
    rate: Fraction  # frames a second
    codebooks: tuple[TokenBook, ...]
    sample_rate: int  # Hz, of the song
    frames: int = 0
    samples: int = 0  # of one channel of the song; the frames cover them

    @classmethod
    def of(cls, pack: pb.Pack, sample_rate: int) -> TokenHeader:
        """For what `pack` makes of a song.

        Raises:
            TokenFileError: it gives no tokens.
        """
        if not (pack.codebooks and pack.tokenizer):
            raise TokenFileError(f"pack {pack.name!r} gives no tokens: use one that does, see `backline packs show`")
        books = tuple(TokenBook(book.name, book.size, book.track) for book in pack.codebooks)
        return cls(pack.name, pack.tokenizer, _rate(pack.codebooks[0].rate), books, sample_rate)

    @property
    def seconds(self) -> float:
        """Of the song."""
        return self.samples / self.sample_rate

    @property
    def bits_per_frame(self) -> int:
        return sum(book.bits for book in self.codebooks)

    def frames_of(self, samples: int) -> int:
        """Frames that cover so many samples."""
        return -(-samples * self.rate // self.sample_rate)

    def stored(self) -> bytes:
        """As the file has it.

        Raises:
            TokenFileError: a number or a name does not fit.
        """
        try:
            fixed = FIXED.pack(
                VERSION, len(self.codebooks), _digest(self.tokenizer), *self.rate.as_integer_ratio(),
                self.sample_rate, self.frames, self.samples,
            )  # fmt: skip
            books = b"".join(SIZE.pack(book.size) + _text(book.name) + _text(book.track) for book in self.codebooks)
            return MAGIC + fixed + _text(self.pack) + books
        except (struct.error, ValueError) as error:
            raise TokenFileError(f"{self} does not fit into a token file: {error}") from error


class TokenWriter:
    """A file in the making; as a context manager it closes the file, which is whole after `finish` only."""

    def __init__(self, file: BinaryIO, header: TokenHeader) -> None:
        """`file` can seek, and is closed by whoever opened it. Raises TokenFileError: the header does not fit."""
        self.header = header
        self.frames = 0  # so far
        self._file, self._checksum = file, 0
        self._rest = np.zeros((0, len(header.codebooks)), np.int64)  # that make no whole bytes yet
        file.write(header.stored())

    def add(self, frames: Frames) -> None:
        """A session's next frames. Raises TokenFileError: some are missing before them, or as `write`."""
        if frames.first_frame != self.frames:
            raise TokenFileError(
                f"frames from {frames.first_frame} on came where frame {self.frames} is due: encode the song again"
            )
        self.write(frames.codes)

    def write(self, codes: ArrayLike) -> None:
        """The next codes [frame, codebook].

        Raises:
            TokenFileError: they are not of the header's codebooks.
        """
        array = np.asarray(codes, np.int64)
        if array.ndim != 2 or array.shape[1] != len(self.header.codebooks):
            raise TokenFileError(f"codes of shape {array.shape}: use [frame, {len(self.header.codebooks)}]")
        _check_codes(array, self.header, self.frames)
        self.frames += len(array)
        array = np.concatenate([self._rest, array])
        whole = len(array) // TOGETHER * TOGETHER
        self._rest = array[whole:]
        self._put(array[:whole])

    def finish(self, samples: int) -> None:
        """Completes the file of a song of so many samples. Raises TokenFileError: the frames do not cover it."""
        if self.frames < (needed := self.header.frames_of(samples)):
            raise TokenFileError(f"{self.frames} frames for a song of {needed}: encode it again, to its end")
        self._put(self._rest)
        stored = replace(self.header, frames=self.frames, samples=samples).stored()
        self._file.write(CHECKSUM.pack(zlib.crc32(stored, self._checksum)))
        self._file.seek(0)
        self._file.write(stored)
        self._file.flush()

    def _put(self, codes: Codes) -> None:
        packed = packed_codes(codes, self.header)
        self._checksum = zlib.crc32(packed, self._checksum)
        self._file.write(packed)


class TokenReader:
    """A file that has been found whole: by its length, its checksum, and every code."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """
        Raises:
            TokenFileError: it is no token file, damaged, or written by a newer Backline.
            OSError: it cannot be read.
        """
        self.path = Path(path)
        self._file = self.path.open("rb")
        try:
            self.header, self._head = self._read_header()
            self._check_whole()
        except TokenFileError as error:
            self._file.close()
            raise TokenFileError(f"{self.path}: {error}") from error
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._file.close()

    def check(self, pack: pb.Pack) -> None:
        """Whether a pack takes these frames, and hears in them what was meant.

        Raises:
            TokenFileError: it does not.
        """
        header, taken = self.header, tuple(TokenBook(book.name, book.size, book.track) for book in pack.takes)
        if not taken:
            raise TokenFileError(f"pack {pack.name!r} takes no tokens: use {header.pack!r}, which made {self.path}")
        if (taken, _rate(pack.takes[0].rate), pack.tokenizer) != (header.codebooks, header.rate, header.tokenizer):
            raise TokenFileError(
                f"{self.path} was made by the tokenizer {header.tokenizer[:12]} of {header.pack!r}, and {pack.name!r} "
                f"has {pack.tokenizer[:12] or 'none'}: use a pack with that one, or encode the song again with "
                f"{pack.name!r}"
            )

    def blocks(self, frames: int = BLOCK) -> Iterator[Codes]:
        """All codes [frame, codebook], from the first on, in blocks of so many frames."""
        for packed, count in self._packed(-(-frames // TOGETHER) * TOGETHER):
            codes = unpacked_codes(packed, count, self.header)
            yield from (codes[start : start + frames] for start in range(0, count, frames))

    def frames(self) -> Iterator[Frames]:
        """All of it, in messages of a size that servers take."""
        first = 0
        for codes in self.blocks(max(1, SENT_CODES // len(self.header.codebooks))):
            yield Frames(first, codes)
            first += len(codes)

    def _packed(self, together: int) -> Iterator[tuple[bytes, int]]:
        """All codes as they are stored, and how many frames each part has."""
        self._file.seek(len(self._head))
        for at in range(0, self.header.frames, together):
            count = min(together, self.header.frames - at)
            yield self._file.read(packed_bytes(count, self.header)), count

    def _read_header(self) -> tuple[TokenHeader, bytes]:
        """The header, and its bytes."""
        read = _Reading(self._file.read(LONGEST_HEADER))
        if read.take(len(MAGIC)) != MAGIC:
            raise TokenFileError("this is no token file: make one with `backline tokens encode`")
        version, count, tokenizer, above, below, sample_rate, frames, samples = FIXED.unpack(read.take(FIXED.size))
        if version != VERSION:
            raise TokenFileError(f"it is of version {version}, this Backline reads {VERSION}: install a newer one")
        pack = read.text()
        books = []
        for _ in range(min(count, MOST_CODEBOOKS)):
            (size,) = SIZE.unpack(read.take(SIZE.size))
            books.append(TokenBook(size=size, name=read.text(), track=read.text()))
        # A frame a second at least: or a few bytes would be a song of years, for which players make room.
        rates = 0 < below <= above <= MOST_RATE * below and SAMPLE_RATES[0] <= sample_rate <= SAMPLE_RATES[1]
        if not (rates and 0 < count <= MOST_CODEBOOKS and all(book.size for book in books)):
            raise TokenFileError("its header names no song: encode the song again")
        header = TokenHeader(pack, tokenizer.hex(), Fraction(above, below), tuple(books), sample_rate, frames, samples)
        if header.frames_of(samples) > frames:
            raise TokenFileError(f"it has {frames} frames for {samples} samples, too few: encode the song again")
        return header, read.data[: read.at]

    def _check_whole(self) -> None:
        header = self.header
        expected = len(self._head) + packed_bytes(header.frames, header) + CHECKSUM.size
        if (there := os.fstat(self._file.fileno()).st_size) != expected:
            wrong = "was cut off" if there < expected else "has something behind its end"
            raise TokenFileError(f"it {wrong}, with {there} bytes of {expected}: copy or encode it again")
        checksum, first = 0, 0
        for packed, _ in self._packed(BLOCK):
            checksum = zlib.crc32(packed, checksum)
        (stored,) = CHECKSUM.unpack(self._file.read(CHECKSUM.size))
        if zlib.crc32(self._head, checksum) != stored:
            raise TokenFileError("it has been damaged, its checksum is another: copy or encode it again")
        for codes in self.blocks():
            _check_codes(codes, header, first)
            first += len(codes)


def packed_codes(codes: Codes, header: TokenHeader) -> bytes:
    """Codes [frame, codebook] frame after frame, the last byte filled with zeros."""
    bits = [
        (codes[:, number, None] >> np.arange(book.bits - 1, -1, -1)) & 1 for number, book in enumerate(header.codebooks)
    ]
    return np.packbits(np.concatenate(bits, axis=1).astype(np.uint8)).tobytes()


def unpacked_codes(packed: bytes, frames: int, header: TokenHeader) -> Codes:
    """[frame, codebook], the other way round."""
    width = header.bits_per_frame
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=frames * width).reshape(frames, width).astype(np.int64)
    ends = np.cumsum([book.bits for book in header.codebooks])
    parts = np.split(bits, ends[:-1], axis=1)
    return np.stack([part @ (1 << np.arange(part.shape[1] - 1, -1, -1)) for part in parts], axis=1)


def packed_bytes(frames: int, header: TokenHeader) -> int:
    """That so many frames take."""
    return -(-frames * header.bits_per_frame // 8)


def _check_codes(codes: Codes, header: TokenHeader, first: int) -> None:
    """Raises TokenFileError: a code is no entry of its codebook; `first` is the first frame's number."""
    wrong = np.argwhere((codes < 0) | (codes >= [book.size for book in header.codebooks]))
    if len(wrong):
        frame, number = wrong[0]
        book = header.codebooks[number]
        raise TokenFileError(
            f"frame {first + frame} has code {codes[frame, number]} of {book.name!r}, which has 0 to {book.size - 1}: "
            "encode the song again"
        )


def _rate(rate: float) -> Fraction:
    """The simple fraction that a double on the wire means."""
    return Fraction(rate).limit_denominator(1_000_000)


def _digest(tokenizer: str) -> bytes:
    digest = bytes.fromhex(tokenizer)
    if len(digest) != 32:
        raise ValueError(f"{tokenizer!r} is no SHA-256")
    return digest


def _text(text: str) -> bytes:
    stored = text.encode()
    return bytes([len(stored)]) + stored


class _Reading:
    """Bytes that are taken one part after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise TokenFileError("its header is cut off: copy or encode it again")
        self.at += count
        return self.data[self.at - count : self.at]

    def text(self) -> str:
        try:
            text = self.take(self.take(1)[0]).decode()
        except UnicodeDecodeError:
            text = "\0"
        if not text.isprintable():
            raise TokenFileError("a name in its header is no text: encode the song again")
        return text
