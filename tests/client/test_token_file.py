"""Token files: what went in comes out to the code, small, and nothing is believed that the file does not hold."""

import io
import struct
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from backline_client import Frames, TokenBook, TokenFileError, TokenHeader, TokenReader, TokenWriter
from backline_client.token_file import FIXED, MAGIC
from backline_protos.v1 import backline_pb2 as pb

DUO = (TokenBook("vocals", 32_768, "vocals"), TokenBook("accompaniment", 32_768, "accompaniment"))
HEADER = TokenHeader("duotok", "ab" * 32, Fraction(25), DUO, 48_000)
FRAME = 48_000 // 25


def random_codes(header: TokenHeader, frames: int, seed: int = 0) -> NDArray[np.int64]:
    random = np.random.default_rng(seed)
    return np.stack([random.integers(0, book.size, frames) for book in header.codebooks], axis=1)


def written(path: Path, header: TokenHeader, codes: NDArray[np.int64], samples: int, *sizes: int) -> Path:
    with path.open("wb") as file:
        writer, at = TokenWriter(file, header), 0
        for size in sizes or (len(codes),):
            writer.add(Frames(at, part := codes[at : at + size]))
            at += len(part)
        writer.write(codes[at:])
        writer.finish(samples)
    return path


def read(path: Path, block: int = 4_096) -> NDArray[np.int64]:
    with TokenReader(path) as file:
        return np.concatenate([np.zeros((0, len(file.header.codebooks)), np.int64), *file.blocks(block)])


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 2**31), min_size=1, max_size=5),
    frames=st.integers(0, 70),
    cuts=st.lists(st.integers(0, 20), max_size=5),
    block=st.integers(1, 80),
)
def test_any_codebooks_come_back_however_they_are_cut(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], frames: int, cuts: list[int], block: int
) -> None:
    books = tuple(TokenBook(f"book{number}", size) for number, size in enumerate(sizes))
    header = replace(HEADER, rate=Fraction(75, 2), codebooks=books)
    codes = random_codes(header, frames)
    path = written(tmp_path_factory.mktemp("duo") / "song.duo", header, codes, frames * 1_280, *cuts)
    np.testing.assert_array_equal(read(path, block), codes)
    with TokenReader(path) as file:
        assert file.header == replace(header, frames=frames, samples=frames * 1_280)
        sent = list(file.frames())
    assert [part.first_frame for part in sent] == np.cumsum([0, *(len(part.codes) for part in sent)])[:-1].tolist()


def test_half_an_hour_takes_less_than_200_kb(tmp_path: Path) -> None:
    frames = 30 * 60 * 25
    path = written(tmp_path / "song.duo", HEADER, random_codes(HEADER, frames), frames * FRAME)
    assert frames * 30 / 8 < path.stat().st_size < 169_000 < 200_000
    np.testing.assert_array_equal(read(path), random_codes(HEADER, frames))


def test_messages_are_of_a_size_that_servers_take(tmp_path: Path) -> None:
    header = replace(HEADER, codebooks=tuple(TokenBook(f"{n}", 2**31) for n in range(100)))
    path = written(tmp_path / "song.duo", header, random_codes(header, 200), 200 * FRAME)
    with TokenReader(path) as file:
        assert max(len(frames.message().SerializeToString()) for frames in file.frames()) < 65_536


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return written(tmp_path / "song.duo", HEADER, random_codes(HEADER, 100), 100 * FRAME - 7)


def test_every_cut_and_every_damaged_byte_is_found(song: Path) -> None:
    whole = song.read_bytes()
    for length in [*range(140), len(whole) - 1]:
        song.write_bytes(whole[:length])
        with pytest.raises(TokenFileError, match=r"song\.duo: .*(copy|encode|make)"):
            TokenReader(song)
    song.write_bytes(whole + b"\0")
    with pytest.raises(TokenFileError, match=r"has something behind its end, with 50. bytes of 50"):
        TokenReader(song)
    for at in range(0, len(whole), 5):
        song.write_bytes(whole[:at] + bytes([whole[at] ^ 0x11]) + whole[at + 1 :])
        with pytest.raises(TokenFileError):
            TokenReader(song)


def sealed(head: bytes, packed: bytes = b"") -> bytes:
    """A file whose checksum is right, whatever it says."""
    return head + packed + struct.pack("<I", zlib.crc32(head, zlib.crc32(packed)))


def head(**changes: int) -> bytes:
    said = {
        "version": 1, "codebooks": 2, "tokenizer": b"t" * 32, "above": 25, "below": 1, "sample_rate": 48_000,
        "frames": 0, "samples": 0,
    } | changes  # fmt: skip
    books = b"".join(struct.pack("<I", 32_768) + b"\x06vocals\x00" for _ in range(2))
    return MAGIC + FIXED.pack(*said.values()) + b"\x06duotok" + books


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"RIFF" * 100, "no token file: make one with `backline tokens encode`"),
        (b"", "cut off"),
        (sealed(head(version=2)), "version 2, this Backline reads 1: install a newer one"),
        (sealed(head(frames=2**64 - 1, samples=1)), "was cut off"),
        (sealed(head(frames=2**40)), "was cut off, with .* bytes of 4123168604"),
        (sealed(head(samples=2**64 - 1)), "0 frames for 18446744073709551615 samples"),
        (sealed(head(below=0)), "names no song"),
        (sealed(head(above=0)), "names no song"),
        (sealed(head(above=2**31)), "names no song"),
        (sealed(head(below=26, frames=2, samples=1), bytes(8)), "names no song"),
        (sealed(head(sample_rate=0)), "names no song"),
        (sealed(head(sample_rate=4_000)), "names no song"),
        (sealed(head(sample_rate=2**24)), "names no song"),
        (sealed(head(codebooks=0)), "names no song"),
        (sealed(head(codebooks=255)), "header is cut off"),
        (sealed(MAGIC + FIXED.pack(1, 200, b"", 25, 1, 48_000, 0, 0) + bytes(200 * 6)), "names no song"),
        (sealed(head().replace(b"duotok", b"\x1b[2Jab")), "no text"),
        (sealed(head().replace(b"duotok", b"\xff\xfe\xfd\xfc\xfb\xfa")), "no text"),
        (sealed(head().replace(struct.pack("<I", 32_768), bytes(4))), "names no song"),
        (
            sealed(
                head(frames=1, samples=1).replace(struct.pack("<I", 32_768), struct.pack("<I", 20_000)), b"\xff" * 4
            ),
            "frame 0 has code 32767 of 'vocals', which has 0 to 19999",
        ),
    ],
)
def test_hostile_files_are_refused_before_anything_is_made_of_them(tmp_path: Path, data: bytes, told: str) -> None:
    (tmp_path / "song.duo").write_bytes(data)
    with pytest.raises(TokenFileError, match=told):
        TokenReader(tmp_path / "song.duo")


def test_what_fits_no_codebook_is_not_written() -> None:
    writer = TokenWriter(io.BytesIO(), HEADER)
    writer.add(Frames(0, random_codes(HEADER, 10)))
    with pytest.raises(TokenFileError, match="frames from 12 on came where frame 10 is due"):
        writer.add(Frames(12, random_codes(HEADER, 1)))
    with pytest.raises(TokenFileError, match="frame 11 has code 32768 of 'accompaniment', which has 0 to 32767"):
        writer.write([[1, 2], [3, 32_768]])
    with pytest.raises(TokenFileError, match=r"shape \(1, 3\): use \[frame, 2\]"):
        writer.write([[1, 2, 3]])
    with pytest.raises(TokenFileError, match="10 frames for a song of 11"):
        writer.finish(10 * FRAME + 1)
    with pytest.raises(TokenFileError, match="does not fit into a token file"):
        TokenWriter(io.BytesIO(), replace(HEADER, tokenizer="ab"))


def test_only_a_pack_with_the_same_tokenizer_takes_it(song: Path) -> None:
    books = [pb.Codebook(name=book.name, size=book.size, rate=25, track=book.track) for book in DUO]
    pack = pb.Pack(name="duotok", takes=books, codebooks=books, tokenizer="ab" * 32)
    assert TokenHeader.of(pack, 48_000) == HEADER
    with TokenReader(song) as file:
        file.check(pack)
        with pytest.raises(
            TokenFileError, match=r"song\.duo was made by the tokenizer abababababab of 'duotok', and 'n'"
        ):
            file.check(pb.Pack(name="n", takes=books, tokenizer="cd" * 32))
        with pytest.raises(TokenFileError, match="'n' takes no tokens: use 'duotok'"):
            file.check(pb.Pack(name="n"))
    with pytest.raises(TokenFileError, match="'n' gives no tokens"):
        TokenHeader.of(pb.Pack(name="n"), 48_000)
