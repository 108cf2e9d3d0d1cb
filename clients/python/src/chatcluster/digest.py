"""The digest of a log prefix (protocol section 4): CRC-32 over the chunks in order. Pure."""

from zlib import crc32

EMPTY = 0
"""Digest of the empty prefix."""


def after(digest: int, kind: str, content: str) -> int:
    """The digest with one more chunk. Raises UnicodeEncodeError for text that is no Unicode."""
    return crc32(f"{kind}\x1f{content}\x1e".encode(), digest)


def as_text(digest: int) -> str:
    """Eight lower-case hex digits, as it stands on the wire."""
    return f"{digest:08x}"


def from_text(text: str) -> int:
    """The inverse of `as_text`. Raises ValueError for anything else."""
    digits = set("0123456789abcdef")
    if len(text) != 8 or not digits.issuperset(text):
        raise ValueError("a digest has eight lower-case hex digits")
    return int(text, 16)
