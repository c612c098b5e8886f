"""On which values can a column lie? Multiples of a step, with exact rounding to the next one above or below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_WHOLE = 2.0**52  # above, every float is whole and a grid says nothing


@dataclass(frozen=True)
class Grid:
    """The values k * step / parts for whole k; every value where `parts` is None.

    >>> cents, days = Grid(parts=100), Grid(step=86_400)
    >>> float(cents.up(0.071)), float(cents.down(0.07)), float(cents.near(0.0749)), float(days.down(100_000.0))
    (0.08, 0.07, 0.07, 86400.0)
    """

    step: int = 1
    parts: int | None = 1

    @staticmethod
    def of_decimals(decimals: int | None) -> Grid:
        """The numbers with so many digits after the point; None: all numbers."""
        return Grid(parts=None if decimals is None else 10 ** max(decimals, 0))

    def up(self, values: Any) -> np.ndarray:
        """The least value of the grid that is not below each value, judged by the floats themselves."""
        import numpy as np

        def exact(k: np.ndarray) -> np.ndarray:
            k = k - (self._value(k - 1) >= values)
            return k + (self._value(k) < values)

        return self._on(np.ceil, exact, values)

    def down(self, values: Any) -> np.ndarray:
        """The greatest value of the grid that is not above each value."""
        import numpy as np

        return -self.up(-np.asarray(values, dtype=float))

    def near(self, values: Any) -> np.ndarray:
        """The nearest value of the grid: for decimals the same float as `numpy.round` gives."""
        import numpy as np

        return self._on(np.rint, lambda k: k, values)

    def _value(self, k: np.ndarray) -> np.ndarray:
        return k * self.step / (self.parts or 1)

    def _on(self, whole: Any, exact: Any, values: Any) -> np.ndarray:
        import numpy as np

        values = np.asarray(values, dtype=float)
        if self.parts is None:
            return values
        with np.errstate(over="ignore", invalid="ignore"):
            k = exact(whole(values * self.parts / self.step))
            return np.where(np.abs(k) < _WHOLE, self._value(k), values)
