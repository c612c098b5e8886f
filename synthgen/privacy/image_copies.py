"""Do synthetic images copy train images: mirrored, inverted, moved, brightened, or in part?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize, unfold

from synthgen.findings import Estimate, Measurement, exactly
from synthgen.image_features import between, encoder, moved
from synthgen.image_views import Views, own_views
from synthgen.privacy.copies import CUTOFFS, DECIDING, fewest_seen, half_of_holdout, mirror_note, sharpest, tested
from synthgen.privacy.labels import LabelTest
from synthgen.privacy.neighbors import Neighbors, Pool
from synthgen.privacy.registration import registered
from synthgen.privacy.space import Points
from synthgen.protocols import Evidence
from synthgen.rng import Seed

MOST_IMAGES = 10_000  # synthetic images searched for; of more a random sample stands in
_RATIOS = tuple(round(0.05 * i, 2) for i in range(21))  # at which a curve counts images
_GRID = 2.0**-16  # of coordinates: sums of products of numbers up to one stay exact in double precision
PLANTED = 100  # copies of each kind that `power` plants
_WINDOW, _STRIDE = 8, 4  # pixels of a 32 x 32 thumbnail
_MOVED = "moved"
_FLAT = 0.03  # spread of a window, as a share of the range, below which it shows nothing
_SOURCE = (
    "label permutation over pooled neighbours; max-T: Westfall & Young 1993; p-value: Phipson & Smyth 2010, "
    "doi:10.2202/1544-6115.1585; "
)
Search = Callable[[Tensor], Neighbors]  # thumbnails of queries -> their nearest images of the pool
Spaces = Callable[[Views], list[Search]]
Planted = list[tuple[str, Tensor, np.ndarray]]  # kind of copies, the copies, and which train images they are of


@dataclass(frozen=True)
class ImageCopies:
    """The pooled neighbour label test of images: do synthetic ones lie near train patients more often than by chance?

    Threat: somebody who knows a patient's image, as a person does or as a file, recognises it among the synthetic ones.
    Train and holdout are pooled and each synthetic image is given to its nearest pooled one, in three spaces: 32 x 32
    pixels by normalised correlation, blind to brightness and contrast, and an encoder trained to find moved, turned,
    scaled and noisy images again. In both, an image is also compared mirrored, turned by right angles, and inverted.
    In a third, it is laid over its nearest ones in the encoder, turned, scaled and moved until it fits best.
    Images are counted by where they landed, for each of seven cut-offs of the ratio of the distances to the nearest
    and to the second nearest patient; all counts are tested together.

    The statistic is the share of synthetic images that copy a train image at the cut-off 0.5, in whichever space it is
    more conspicuous. Copies of random train images are planted, and `power` is the smallest share that would have been
    seen whether they are exact, mirrored, noisy, or of another gamma; what would have been seen of moved ones, which
    depends on how alike the patients are, stands in the details.

    >>> ImageCopies().question
    'Do synthetic images copy train images, also mirrored, inverted, moved or brightened?'
    """

    name: ClassVar[str] = "images.copies"
    question: ClassVar[str] = "Do synthetic images copy train images, also mirrored, inverted, moved or brightened?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic", "images"})

    alpha: float = 0.001  # level at which `power` says what would have been seen

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Search the pooled neighbours in all spaces and permute the labels.

        Raises:
            NotAssessable: fewer than 20 patients on a side, or a holdout so small that nothing would be seen.
        """
        embed, seen = encoder(evidence).embed, own_views(evidence)

        def spaces(sets: Views) -> list[Search]:
            return searches(embed, sets)

        label = "share of synthetic images that copy a train image"
        return _measured(self.name, label, evidence, spaces, _planted(seen, seed), seed=seed, alpha=self.alpha)


@dataclass(frozen=True)
class ImagePatches:
    """The same test for parts of images: a pasted lesion, a copied half.

    Each image is cut into overlapping windows of a quarter of its side. A window is compared with the same window of
    every pooled image by normalised correlation; the window that is closest to one patient, measured by the second
    closest, stands for the image. Windows without contrast are left out.

    A copied part that was moved, or that holds no whole window, is not seen: parts of half the side always hold one.

    >>> ImagePatches().name
    'images.patches'
    """

    name: ClassVar[str] = "images.patches"
    question: ClassVar[str] = "Do synthetic images contain parts of train images?"
    needs: ClassVar[frozenset[str]] = frozenset({"train", "holdout", "synthetic", "images"})

    alpha: float = 0.001  # level at which `power` says what would have been seen

    def run(self, evidence: Evidence, *, seed: Seed) -> Measurement:
        """Search the pooled neighbours of every window and permute the labels.

        Raises:
            NotAssessable: as for `images.copies`.
        """
        label = "share of synthetic images that hold a part of a train image"
        planted = _parts(own_views(evidence), seed)

        def spaces(sets: Views) -> list[Search]:
            return [window_search(sets)]

        return _measured(self.name, label, evidence, spaces, planted, seed=seed, alpha=self.alpha)


def searches(embed: Callable[[Tensor], np.ndarray], seen: Views) -> list[Search]:
    """What `images.copies` looks at: pixels, the encoder, and images laid over each other, as they are and mirrored."""
    found = [search_in(standardised, seen), search_in(embed, seen)]
    if seen.train.dim() == 4:
        laid_over = registered(seen, lambda images: points(embed(images)))
        found.append(lambda queries: _nearest_of([laid_over(queries), laid_over(queries.flip(-1))]))
    return found


def _measured(
    name: str, label: str, evidence: Evidence, spaces: Spaces, planted: Planted, *, seed: Seed, alpha: float
) -> Measurement:
    seen = own_views(evidence)
    queries, looks = seen.synthetic[_searched(len(seen.synthetic))], spaces(seen)
    rows = len(queries)
    found = [look(queries) for look in looks]
    test, control = tested(found, seed, alpha), _control(evidence, spaces, seed)
    fewest_seen(test, evidence, rows)
    statistic = test.leaked(DECIDING, rows)
    kinds = {kind: _fewest(test, looks, copies, sources, rows) for kind, copies, sources in planted}
    worst = max(fewest for kind, fewest in kinds.items() if kind != _MOVED)
    close, onto = test.total[DECIDING] / rows, test.train[DECIDING] / max(1, test.total[DECIDING])
    answer = (
        f"{close:.1%} of the synthetic images are conspicuously close to one patient; {onto:.1%} of these patients "
        f"were trained on, where {test.train_share:.1%} is chance: {statistic.value:.2%} are copies beyond chance."
        if close
        else "No synthetic image is conspicuously closer to one patient than to all others."
    )
    details = {f"t={t:g}": test.leaked(i, rows) for i, t in enumerate(CUTOFFS) if i != DECIDING}
    details |= {f"smallest share seen, {kind}": exactly(k / rows, n=rows) for kind, k in kinds.items() if k <= rows}
    return Measurement(
        check=name,
        label=label,
        statistic=statistic,
        better="lower",
        answer=answer,
        control=control[0] if control else None,
        details={**details, "mirror_p": exactly(test.p_fewer, n=test.permutations)},
        p_value=test.p_more,
        power=exactly(worst / rows, n=rows) if worst <= rows else None,
        curves={"synthetic": _shares(found), **({"real holdout": control[1]} if control else {})},
        notes=(*_notes(kinds, rows, len(seen.synthetic)), *mirror_note(test)),
        source=_SOURCE + "memorised medical images: Dar et al. 2024, arXiv:2402.01054",
    )


def _notes(kinds: dict[str, float], rows: int, everything: int) -> list[str]:
    seen = "; ".join(f"{kind}: {fewest:.0f}" for kind, fewest in kinds.items() if fewest <= rows)
    notes = [f"copies of so many different train patients would be seen with 90 % chance: {seen}"] if seen else []
    unseen = [kind for kind, fewest in kinds.items() if fewest > rows]
    notes += [f"no number of copies would be seen of the kind: {', '.join(unseen)}"] if unseen else []
    notes += [f"a random {rows:,} of the {everything:,} synthetic images were searched"] if rows < everything else []
    return notes


def conspicuous(evidence: Evidence) -> tuple[np.ndarray, Neighbors]:
    """The numbers of the searched synthetic images, and for each the space of `images.copies` where it is closest."""
    seen = own_views(evidence)
    rows = _searched(len(seen.synthetic))
    looks = searches(encoder(evidence).embed, seen)
    return rows.numpy(), sharpest([look(seen.synthetic[rows]) for look in looks])


def _searched(images: int) -> Tensor:
    """Which synthetic images are searched for: all, or a random part of very many."""
    if images <= MOST_IMAGES:
        return torch.arange(images)
    generator = Seed(0).child("image copies", "sample").torch()
    return torch.randperm(images, generator=generator)[:MOST_IMAGES].sort().values


def _shares(found: Sequence[Neighbors]) -> tuple[tuple[float, float], ...]:
    """The share of images whose ratio of distances, in the space where it is smallest, is at most so much."""
    ratio = (found[0] if len(found) == 1 else sharpest(found)).ratio
    return tuple((t, round(float((ratio <= t).mean()), 4)) for t in _RATIOS)


def _nearest_of(versions: Sequence[Neighbors]) -> Neighbors:
    """Over several versions of the same queries: the nearest, and the nearest of any other patient than that one."""
    first = np.stack([one.first for one in versions])
    rows, best = np.arange(first.shape[1]), first.argmin(axis=0)
    nearest = np.stack([one.nearest for one in versions])
    patients = versions[0].patients
    own = patients[nearest[best, rows]]
    second = np.stack([one.second for one in versions])
    other = np.where(patients[nearest] == own, second, first).min(axis=0)
    return Neighbors(nearest[best, rows], first[best, rows], other, versions[0].is_train, patients)


def search_in(space: Callable[[Tensor], np.ndarray], seen: Views) -> Search:
    """In a space of vectors, all ways in which an image may be turned."""
    pool = Pool.of(points(space(seen.train)), points(space(seen.holdout)), seen.patients)
    return lambda queries: _nearest_of([pool.search(points(space(way))) for way in _all_ways(queries)])


def points(vectors: np.ndarray) -> Points:
    """Vectors of numbers up to one, rounded so that equal ones have distance zero in any order of sums."""
    numbers = np.round(vectors / _GRID) * _GRID
    return Points.of(numbers, np.zeros((len(numbers), 0), dtype=np.int32))


def standardised(images: Tensor) -> np.ndarray:
    """Without brightness and contrast, so that distances are those of normalised correlation; blank images are 0."""
    flat = images.flatten(1).double()
    found: np.ndarray = normalize(flat - flat.mean(1, keepdim=True), dim=1, eps=1e-6).numpy()
    return found


def _all_ways(images: Tensor) -> Iterator[Tensor]:
    """The eight symmetries of a square, each also inverted."""
    for turned in symmetries(images):
        yield turned
        yield -turned


def symmetries(images: Tensor) -> Iterator[Tensor]:
    """Mirrored and turned by right angles in the plane of the slice. Shape: (images, channels, ..., rows, rows) each.

    >>> len({tuple(one.flatten().tolist()) for one in symmetries(torch.arange(4.0).view(1, 1, 2, 2))})
    8
    """
    for mirrored in (images, images.flip(-1)):
        for turns in range(4):
            yield mirrored.rot90(turns, (-2, -1))


def window_search(seen: Views) -> Search:
    """Window by window; for each query the window that is closest to one patient as a share of the second."""
    train, holdout = (_windows(images) for images in (seen.train, seen.holdout))

    def searched(queries: Tensor) -> Neighbors:
        best: Neighbors | None = None
        for sides in zip(_windows(queries), train, holdout, strict=True):
            part, (own, one, other) = sides[0], (points(standardised(side)) for side in sides)
            found = Pool.of(one, other, seen.patients).search(own)
            flat = (part.std(1) < 2 * _FLAT).numpy()
            first, second = np.where(flat, np.inf, found.first), np.where(flat, 1.0, found.second)
            found = Neighbors(found.nearest, first, second, found.is_train, found.patients)
            best = found if best is None else sharpest((best, found))
        assert best is not None, "there is at least one window"
        return best

    return searched


def _windows(images: Tensor) -> Tensor:
    """Shape: thumbnails (images, 1, ...) -> (windows, images, pixels); of volumes slice by slice, a few together."""
    if images.dim() == 4:
        return unfold(images, _WINDOW, stride=_STRIDE).permute(2, 0, 1)
    blocks = images[:, 0].unfold(1, _WINDOW, _STRIDE).unfold(2, _WINDOW, _STRIDE).unfold(3, _WINDOW, _STRIDE)
    return blocks.flatten(4).flatten(1, 3).permute(1, 0, 2)


def _planted(seen: Views, seed: Seed) -> Planted:
    """Copies of each kind of random train images, and whose they are."""
    sources = _sources(seen, seed)
    images, generator = seen.train[sources], seed.child("planted").torch()
    n, one, dims = len(images), (len(images), *[1] * (images.dim() - 1)), images.dim() - 2
    noisy = images + 0.02 * 2 * torch.randn(images.shape, generator=generator)
    bent = ((images + 1) / 2).clamp(0, 1) ** torch.exp(between(-0.5, 0.5, one, generator)) * 2 - 1
    shift = between(-0.15, 0.15, (n, dims), generator)
    turn, grow = between(-6, 6, (n,), generator), between(0.94, 1.06, (n,), generator)
    kinds = {
        "exact": images,
        "mirrored": images.flip(-1),
        "noisy": noisy,
        "another gamma": bent,
        _MOVED: moved(images, turn, shift, grow),
    }
    return [(kind, copies, sources) for kind, copies in kinds.items()]


def _parts(seen: Views, seed: Seed) -> Planted:
    """Half the side of random train images, at its place in random synthetic ones."""
    sources = _sources(seen, seed)
    images, generator = seen.train[sources], seed.child("planted").torch()
    into = seen.synthetic
    hosts = into[torch.randint(len(into), (len(images),), generator=generator)].clone()
    half = images.shape[-1] // 2
    for i in range(len(images)):
        at = torch.randint(0, half + 1, (images.dim() - 2,), generator=generator).tolist()
        part = tuple(slice(low, low + half) for low in at)
        hosts[i, 0][part] = images[i, 0][part]
    return [("a quarter of the image" if images.dim() == 4 else "an eighth of the volume", hosts, sources)]


def _sources(seen: Views, seed: Seed) -> np.ndarray:
    """Random train images, of different patients where there are enough."""
    order = seed.child("sources").numpy().permutation(len(seen.train))
    chosen = order[np.sort(np.unique(seen.train_patients[order], return_index=True)[1])]
    return np.asarray(chosen[:PLANTED])


def _fewest(test: LabelTest, looks: Sequence[Search], copies: Tensor, sources: np.ndarray, rows: int) -> float:
    """How many copies of a kind would be seen: some of them land where they should, conspicuously enough."""
    found = [look(copies) for look in looks]
    joint = found[0] if len(found) == 1 else sharpest(found)
    right = joint.patients[joint.nearest] == joint.patients[sources]
    hits = [float((right & (joint.ratio <= t)).mean()) for t in CUTOFFS]
    return test.smallest_seen(rows, hits=np.array(hits))


def _control(evidence: Evidence, spaces: Spaces, seed: Seed) -> tuple[Estimate, tuple[tuple[float, float], ...]] | None:
    """Share and curve of half of the holdout patients in place of the synthetic images, against all others."""
    half, seen = half_of_holdout(evidence, seed), own_views(evidence)
    if half is None:
        return None
    chosen = torch.from_numpy(half)
    dense = np.unique(seen.holdout_patients[~half], return_inverse=True)[1] + seen.train_patients.max() + 1
    sets = Views(seen.train, seen.holdout[~chosen], seen.holdout[chosen], seen.train_patients, dense)
    queries = sets.synthetic[_searched(len(sets.synthetic))]
    found = [look(queries) for look in spaces(sets)]
    return tested(found, seed.child("control"), 0.001).leaked(DECIDING, len(queries)), _shares(found)
