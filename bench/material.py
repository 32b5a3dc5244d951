"""What is pushed: bytes that nothing can compress, and text as people write it.

Rule of this room: the same name and size give the same kind of file, and never twice the same bytes.
"""

import os
import random
from pathlib import Path

_BLOCK = 4 * 1024 * 1024
_PARAGRAPHS = 4_096


def noise(path: Path, size: int) -> Path:
    """Like films, recordings, pictures and archives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for left in range(size, 0, -_BLOCK):
            file.write(os.urandom(min(left, _BLOCK)))
    return path


def prose(path: Path, size: int) -> Path:
    """Paragraphs of words, some of them frequent, in an order of their own."""
    from mnemonic import Mnemonic

    path.parent.mkdir(parents=True, exist_ok=True)
    chance = random.Random(os.urandom(8))
    words = Mnemonic("english").wordlist
    weights = [1 / (rank + 3) for rank in range(len(words))]
    paragraphs = [
        " ".join(chance.choices(words, weights, k=320)).encode() + b".\n\n" for _ in range(_PARAGRAPHS)
    ]
    left = size
    with path.open("wb") as file:
        while left > 0:
            piece = b"".join(chance.choices(paragraphs, k=512))[:left]
            file.write(piece)
            left -= len(piece)
    return path
