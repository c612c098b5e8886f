"""Do synthetic images look like real ones as signals? Their frequencies, and how often each pixel value occurs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from synthgen.findings import Estimate, Measurement
from synthgen.image_views import views
from synthgen.protocols import Evidence
from synthgen.rng import Seed
from synthgen.validators.image_fidelity import with_real
from synthgen.validators.image_sets import IMAGES, ImageSides, equal_sides
from synthgen.validators.resampling import around, bootstrap_figures, one_thread

_BINS = 64  # of pixel values
_FLOOR = 1e-10  # of power: less than what rounding to the views' twelve bits leaves
_CHUNK = 256  # images at a time
Curve = tuple[tuple[float, float], ...]
Summary = Callable[[np.ndarray], np.ndarray]  # row weights -> what they come to


@dataclass(frozen=True)
class Spectrum:
    """Power over spatial frequency, averaged over directions: blur, noise and grids of upsampling show here.

    >>> Spectrum().question
    'Do synthetic images have the fine and coarse detail of real ones?'
    """

    name: ClassVar[str] = "fidelity.spectrum"
    question: ClassVar[str] = "Do synthetic images have the fine and coarse detail of real ones?"
    needs: ClassVar[frozenset[str]] = IMAGES
    images: int = 2_000  # of each set, at most
    repeats: int = 200

    @one_thread
    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Compare the mean power at each frequency, in powers of ten.

        Raises:
            NotAssessable: no images, or fewer than 20 patients in a set.
        """
        sides = equal_sides(evidence, self.images, seed)
        seen = [one[rows] for one, rows in zip(views(evidence).sets, sides.rows, strict=True)]
        frequencies, _ = rings(tuple(seen[0].shape[2:]))
        powers = [radial_power(one) for one in seen]
        fine = frequencies > frequencies.max() / 2

        def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
            gap = one - other
            return np.array([np.abs(gap).mean(), gap[fine].mean(), gap[~fine].mean()])

        made, real, level = _compared(
            sides, [_log_power(one) for one in powers], distances, seed=seed.child("bootstrap"), repeats=self.repeats
        )
        statistic, control = around_all(made, sides, 0)[0], around_all(real, sides, 0)[0]
        names = ("fine detail (upper half of frequencies)", "coarse detail (lower half of frequencies)")
        signed = [
            (one, other)
            for one, other in zip(
                around_all(made, sides, -np.inf)[1:], around_all(real, sides, -np.inf)[1:], strict=True
            )
        ]
        more = "more" if signed[0][0].value > 0 else "less"
        return Measurement(
            check=self.name,
            label="mean difference of the power at a spatial frequency from the holdout's (in powers of ten)",
            statistic=statistic,
            control=control,
            better="lower",
            answer=f"The power of synthetic images differs from the holdout's by a factor of {10**statistic.value:.2f} "
            f"at a frequency, that of train images by {10**control.value:.2f}; in fine detail it is {more} by a factor "
            f"of {10 ** abs(signed[0][0].value):.2f}.",
            details=with_real(dict(zip(names, signed, strict=True))),
            curves={
                "synthetic": _curve(frequencies, level[2]),
                "real holdout": _curve(frequencies, level[1]),
            },
            notes=(
                f"{sides.count:,} images of each set, {len(frequencies)} frequencies up to half a cycle per pixel, a "
                "Hann window; the curves show the power in powers of ten; the details are signed",
            ),
            source="azimuthally averaged power spectrum: Durall et al. 2020, arXiv:2003.01826",
        )


@dataclass(frozen=True)
class Intensities:
    """How often each pixel value occurs, and how brightness and contrast differ from image to image.

    >>> Intensities().name
    'fidelity.intensities'
    """

    name: ClassVar[str] = "fidelity.intensities"
    question: ClassVar[str] = "Are pixel values, brightness and contrast distributed as in real images?"
    needs: ClassVar[frozenset[str]] = IMAGES
    images: int = 2_000
    repeats: int = 200

    @one_thread
    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Compare histograms of pixels, and those of each image's mean and spread.

        Raises:
            NotAssessable: no images, or fewer than 20 patients in a set.
        """
        sides = equal_sides(evidence, self.images, seed)
        seen = [one[rows] for one, rows in zip(views(evidence).sets, sides.rows, strict=True)]
        parts = [image_histograms(one) for one in seen]

        def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
            gaps = wasserstein(one, other)  # of each channel, then of mean and spread
            total = np.abs(one[:-2] - other[:-2]).sum(axis=1).mean() / 2
            return np.array([gaps[:-2].mean(), gaps[-2], gaps[-1], total])

        made, real, level = _compared(
            sides, [_shares(one) for one in parts], distances, seed=seed.child("bootstrap"), repeats=self.repeats
        )
        found, floor = around_all(made, sides, 0), around_all(real, sides, 0)
        names = ("brightness of an image", "contrast of an image", "pixel values, total variation")
        middle = (np.arange(_BINS) + 0.5) / _BINS
        return Measurement(
            check=self.name,
            label="distance of the pixel values from the holdout's (Wasserstein-1, as a share of their range)",
            statistic=found[0],
            control=floor[0],
            better="lower",
            answer=f"Pixel values are off by {found[0].value:.2%} of their range on average; those of as many train "
            f"images by {floor[0].value:.2%}.",
            details=with_real({name: (found[i], floor[i]) for i, name in enumerate(names, start=1)}),
            curves={
                "synthetic": _curve(middle, level[2][:-2].mean(axis=0)),
                "real holdout": _curve(middle, level[1][:-2].mean(axis=0)),
            },
            notes=(
                f"{sides.count:,} images of each set; the range is that of nearly all real pixels, in {_BINS} steps",
                "brightness and contrast: Wasserstein-1 distance of the mean and of the standard deviation of an image",
            ),
            source="Wasserstein-1 distance between distributions on a line; total variation distance",
        )


def rings(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies of the rings (shells in volumes) of a spectrum, and the ring of each place of a full transform.

    The mean is left out, and so are the corners beyond half a cycle per pixel.

    Shape: -> (rings,) in cycles per pixel, (prod(shape),) int with -1 for places in no ring.

    >>> rings((8, 8))[0].tolist()
    [0.125, 0.25, 0.375, 0.5]
    """
    axes = np.meshgrid(*(np.fft.fftfreq(side) for side in shape), indexing="ij")
    radius, longest = np.sqrt(sum(axis**2 for axis in axes)).ravel(), max(shape)
    ring = np.rint(radius * longest).astype(int) - 1
    count = longest // 2
    ring[(ring < 0) | (ring >= count)] = -1
    held = np.unique(ring[ring >= 0])  # a flat volume may leave a ring empty
    place = np.full(count + 1, -1)
    place[held] = np.arange(len(held))
    return (held + 1) / longest, place[ring]


def radial_power(images: Tensor) -> np.ndarray:
    """The mean power of each image at each frequency; white noise of variance one has a power of one everywhere.

    Shape: (images, channels, ...) -> (images, rings) float64.

    >>> radial_power(torch.zeros(2, 1, 8, 8)).shape
    (2, 4)
    """
    shape = tuple(images.shape[2:])
    frequencies, ring = rings(shape)
    window = torch.ones(shape, dtype=torch.float64)
    for axis, side in enumerate(shape):
        hann = torch.hann_window(side + 2, periodic=False, dtype=torch.float64)[1:-1]
        window = window * hann.view(*(-1 if i == axis else 1 for i in range(len(shape))))
    inside = ring >= 0
    counts = np.bincount(ring[inside], minlength=len(frequencies))
    mean = torch.zeros(len(ring), len(frequencies), dtype=torch.float64)
    mean[torch.from_numpy(np.flatnonzero(inside)), torch.from_numpy(ring[inside])] = 1.0
    mean = mean / torch.from_numpy(counts)
    found = []
    for part in images.split(_CHUNK):
        grey = part.double().mean(1)
        grey = grey - grey.flatten(1).mean(1).view(-1, *[1] * len(shape))
        spectrum = torch.fft.fftn(grey * window, dim=tuple(range(1, 1 + len(shape))))
        found.append((spectrum.abs() ** 2 / (window**2).sum()).flatten(1) @ mean)
    return torch.cat(found).numpy()


def image_histograms(images: Tensor) -> np.ndarray:
    """For each image the shares of its pixels in steps of the range, by channel; then its mean and its spread, marked.

    Shape: (images, channels, ...) from -1 to 1 -> (images, channels + 2, 64) float32.

    >>> image_histograms(torch.zeros(1, 1, 4, 4))[0].argmax(axis=1).tolist()
    [32, 32, 0]
    """
    values = ((images.double() + 1) / 2).clamp(0, 1)
    steps = (values * _BINS).long().clamp(max=_BINS - 1).flatten(2)
    channels, n = images.shape[1], len(images)
    hist = torch.zeros(n, channels + 2, _BINS)
    hist[:, :channels].scatter_add_(2, steps, torch.ones(steps.shape) / steps.shape[2])
    flat = values.flatten(1)
    for place, figure in enumerate((flat.mean(1), 2 * flat.std(1, correction=0)), start=channels):  # a spread is <= 1/2
        marked = (figure * _BINS).long().clamp(max=_BINS - 1)
        hist[torch.arange(n), place, marked] = 1.0
    return hist.numpy()


def wasserstein(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Between shares over equal steps of a range of length one, along the last axis.

    >>> wasserstein(np.array([1.0, 0, 0, 0]), np.array([0, 0, 1.0, 0])).item()
    0.5
    """
    gap = np.cumsum(one - other, axis=-1)
    return np.abs(gap).sum(axis=-1) / one.shape[-1]


def around_all(figures: tuple[np.ndarray, np.ndarray], sides: ImageSides, least: float) -> list[Estimate]:
    """Estimates of several figures. Shape: values (figures,), draws (repeats, figures)."""
    value, draws = figures
    return [
        around(float(value[i]), draws[:, i], n=sides.count, least=float(least), most=np.inf) for i in range(len(value))
    ]


def _compared(
    sides: ImageSides,
    summaries: Sequence[Summary],
    distances: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    seed: Seed,
    repeats: int,
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray], list[np.ndarray]]:
    """Distances of synthetic, and of train, from the holdout: values with bootstrap draws; and the three summaries."""

    def figures(*weights: np.ndarray) -> np.ndarray:
        train, holdout, synthetic = (make(w) for make, w in zip(summaries, weights, strict=True))
        return np.concatenate([distances(synthetic, holdout), distances(train, holdout)])

    value, draws = bootstrap_figures(figures, sides.records, seed=seed, repeats=repeats)
    (made, real), (made_draws, real_draws) = np.split(value, 2), np.split(draws, 2, axis=1)
    return (made, made_draws), (real, real_draws), [make(np.ones(sides.count)) for make in summaries]


def _log_power(powers: np.ndarray) -> Summary:
    return lambda w: np.log10(np.maximum(w @ powers / w.sum(), _FLOOR))


def _shares(histograms: np.ndarray) -> Summary:
    flat = histograms.reshape(len(histograms), -1)
    shape = histograms.shape[1:]
    return lambda w: ((w.astype(np.float32) @ flat).astype(float) / w.sum()).reshape(shape)


def _curve(x: np.ndarray, y: np.ndarray) -> Curve:
    return tuple((float(a), float(b)) for a, b in zip(x, y, strict=True))
