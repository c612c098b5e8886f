"""Where does randomness start? One seed, from which every part of a job takes its own named stream."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True)
class Seed:
    """A root number and a path of names; equal seeds give equal streams, different paths independent ones.

    >>> Seed(7).child("fit").integer() == Seed(7).child("fit").integer()
    True
    >>> Seed(7).child("fit").integer() == Seed(7).child("sample").integer()
    False
    """

    root: int
    path: tuple[str, ...] = ()

    @staticmethod
    def of(seed: int | Seed) -> Seed:
        """Accept what people write (an int) and what the library passes on (a Seed)."""
        return seed if isinstance(seed, Seed) else Seed(int(seed))

    @staticmethod
    def secret() -> Seed:
        """A root from the operating system that is written down nowhere: for noise that nobody may take away.

        >>> Seed.secret() == Seed.secret()
        False
        """
        return Seed(secrets.randbits(128))

    def child(self, *names: str) -> Seed:
        """The seed of a named part of the job."""
        return Seed(self.root, self.path + names)

    def integer(self) -> int:
        """63 bits of this stream, for libraries that take an integer seed."""
        text = "\x1f".join((str(self.root), *self.path))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def numpy(self) -> np.random.Generator:
        """A fresh NumPy generator at the start of this stream."""
        import numpy as np

        return np.random.default_rng(self.integer())

    def torch(self, device: str = "cpu") -> torch.Generator:
        """A fresh torch generator at the start of this stream."""
        import torch

        return torch.Generator(device=device).manual_seed(self.integer())
