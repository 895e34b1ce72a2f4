"""Audio containers as bytes: tags removed, truncation detected, WAV headers rewritten for libsndfile.

libsndfile reads a truncated WAV, AIFF or OGG without an error, loses samples of a WAV or AIFF after an ID3
tag, and takes a WAV whose length was left open for an empty one. `prepare` decides these cases.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from narration.errors import BadAudio

_OPEN_SIZE = 0x7FFF_F000  # bytes; a program that writes WAV to a pipe announces this or more
_MAX_FRAME_BYTES = 64  # 8 channels of 64 bits; a larger block is a compressed one
_WAV_CHUNKS = frozenset({b"fmt ", b"data", b"fact", b"LIST", b"JUNK", b"PEAK", b"bext", b"cue ", b"iXML"})
_KEPT_CHUNKS = frozenset({b"fmt ", b"fact", b"data", b"ds64"})
_AIFF_CHUNKS = frozenset({b"COMM", b"SSND", b"FVER", b"MARK", b"COMT", b"NAME", b"AUTH", b"ANNO"})
_SUFFIXES = {
    **dict.fromkeys((b"RIFF", b"RIFX", b"RF64"), ".wav"),
    b"fLaC": ".flac",
    b"OggS": ".ogg",
    b"FORM": ".aiff",
}
_W64_GUID = bytes.fromhex("726966662e91cf11a5d628db04c10000")  # begins a Wave64 file
_W64_CHUNK_HEADER = 24  # bytes: a GUID of 16, which begins with the chunk's name, and a size of 8


def prepare(data: bytes) -> bytes:
    """Return the audio file `data` in the form that libsndfile reads completely.

    ID3 tags before the audio are removed. A WAV, RF64 or Wave64 becomes a WAV of its format, fact and data
    chunks, with the sizes that these have. Other containers, and bytes that are no audio, are returned as
    they are. Raises `BadAudio` for a file that announces more audio than it holds; the last frame of a
    WAV or AIFF may be incomplete, since some programs announce a padding byte that they do not write.
    """
    data = _without_leading_tags(data)
    if data[:4] in {b"RIFF", b"RIFX", b"RF64"} and data[8:12] == b"WAVE":
        return _rewrite_wav(data, "big" if data[:4] == b"RIFX" else "little")
    if data[:16] == _W64_GUID:
        return _rewrite_wav(data, "little")
    if data[:4] == b"fLaC" and has_open_length(data):
        return _without_trailing_tag(data)
    if data[:4] == b"FORM":
        _refuse_truncated_aiff(data)
    elif data[:4] == b"OggS":
        _refuse_truncated_ogg(data)
    return data


def has_open_length(flac: bytes) -> bool:
    """Whether the header of a FLAC file leaves its number of samples open, as one written to a pipe does.

    Layout: RFC 9639, section 8.2; the number is the lower half of byte 21 and the four bytes after it.
    """
    return len(flac) >= 26 and not flac[21] & 0x0F and not any(flac[22:26])


def file_suffix(data: bytes) -> str:
    """The usual suffix of a file that libsndfile decodes, by its first bytes: .mp3 for none of the others."""
    data = _without_leading_tags(data)
    if data[:16] == _W64_GUID:
        return ".w64"
    return _SUFFIXES.get(data[:4], ".mp3")


def _without_leading_tags(data: bytes) -> bytes:
    """`data` without ID3v2 tags before it. Layout: ID3 2.4, section 3.1; each byte of a size has 7 bits."""
    at = 0
    while data[at : at + 3] == b"ID3" and len(data) > at + 10:
        has_footer = data[at + 5] & 0x10
        size = sum(byte << shift for byte, shift in zip(data[at + 6 : at + 10], (21, 14, 7, 0), strict=True))
        at += 10 + size + (10 if has_footer else 0)
    return data[at:]


def _without_trailing_tag(data: bytes) -> bytes:
    """`data` without an ID3v1 tag, which takes the last 128 bytes."""
    return data[:-128] if data[-128:-125] == b"TAG" else data


def _chunks(
    data: bytes, order: Literal["little", "big"], names: frozenset[bytes]
) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and announced size of every RIFF or AIFF chunk.

    A chunk of odd size has a padding byte after it; where one of `names` stands in its place, the program
    that wrote the file left it out.
    """
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], order)
        yield name, at + 8, size
        at += 8 + size
        if size % 2 and data[at : at + 4] not in names:
            at += 1


def _w64_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and announced size of every Wave64 chunk; chunks begin at multiples of 8 bytes."""
    at = 40
    while at + _W64_CHUNK_HEADER <= len(data):
        size = max(_W64_CHUNK_HEADER, int.from_bytes(data[at + 16 : at + 24], "little"))
        yield data[at : at + 4], at + _W64_CHUNK_HEADER, size - _W64_CHUNK_HEADER
        at += -(-size // 8) * 8


def _rewrite_wav(data: bytes, order: Literal["little", "big"]) -> bytes:
    is_w64 = data[:16] == _W64_GUID
    chunks: dict[bytes, tuple[int, int]] = {}
    for name, start, size in _w64_chunks(data) if is_w64 else _chunks(data, order, _WAV_CHUNKS):
        if name in _KEPT_CHUNKS:
            chunks.setdefault(name, (start, size))
        if chunks.keys() >= {b"fmt ", b"data"}:
            break
    if b"data" not in chunks:
        raise _truncated()
    contents = {name: data[start : start + size] for name, (start, size) in chunks.items()}
    start, size = chunks[b"data"]
    if size == 0xFFFF_FFFF and b"ds64" in contents:  # of an RF64: sizes of 64 bits
        size = int.from_bytes(contents[b"ds64"][8:16], "little") or size
    file_end = 8 + int.from_bytes(data[4:8], order)
    is_empty = start < file_end <= len(data) + 1  # where the data chunk announces nothing
    is_open = size >= _OPEN_SIZE or (size == 0 and not is_empty)
    block = int.from_bytes(contents.get(b"fmt ", b"")[12:14], order) or 1
    contents[b"data"] = _whole_frames(data[start:], None if is_open else size, block)
    body = b"WAVE" + b"".join(
        name + len(contents[name]).to_bytes(4, order) + contents[name] + bytes(len(contents[name]) % 2)
        for name in (b"fmt ", b"fact", b"data")
        if name in contents
    )
    return (b"RIFX" if order == "big" else b"RIFF") + len(body).to_bytes(4, order) + body


def _whole_frames(audio: bytes, size: int | None, block: int) -> bytes:
    """The `size` bytes that `audio` begins with (None: all), as complete frames of `block` bytes.

    Raises `BadAudio` where more than a frame is missing.
    """
    if size is None:
        audio = _without_trailing_tag(audio)
    else:
        _refuse_missing(size - len(audio), frame=min(block, _MAX_FRAME_BYTES))
        audio = audio[:size]
    partial = len(audio) % block
    if block <= _MAX_FRAME_BYTES:
        return audio[: len(audio) - partial]
    return audio + bytes(block - partial) if partial else audio


def _refuse_truncated_aiff(data: bytes) -> None:
    frame = 1
    for name, start, size in _chunks(data, "big", _AIFF_CHUNKS):
        if name == b"COMM":
            channels, bits = (int.from_bytes(data[start + at : start + at + 2], "big") for at in (0, 6))
            frame = min(channels * -(-bits // 8), _MAX_FRAME_BYTES)
        if name == b"SSND":
            _refuse_missing(start + size - len(data), frame=frame)
            return
    _refuse_missing(8 + int.from_bytes(data[4:8], "big") - len(data), frame=0)


def _refuse_truncated_ogg(data: bytes) -> None:
    """Raise `BadAudio` where the last page is cut or not marked as the last. Layout: RFC 3533, section 6."""
    page = data[data.rfind(b"OggS") :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        raise _truncated()
    segments = page[27 : 27 + page[26]]
    if not page[5] & 4 or len(page) < 27 + len(segments) + sum(segments):
        raise _truncated()


def _refuse_missing(missing: int, *, frame: int) -> None:
    """Raise `BadAudio` where more than `frame` bytes are missing."""
    if missing > frame:
        raise _truncated()


def _truncated() -> BadAudio:
    return BadAudio("audio is truncated: its container announces more bytes than there are")
