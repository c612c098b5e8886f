"""Does the audit of images find what is planted, and nothing else? Prints detection and false alarms with intervals.

    python benchmarks/image_leaks.py --runs 50 --nulls 200 --record

Real images of PneumoniaMNIST: a pool of 3,000, of which each run draws 2,000 as train and leaves 1,000 as holdout; the
synthetic set is 2,000 of the other real images, which is what a perfect generator would make. The encoder and the
search are blind to who is in train, so they are made once. Of each leak 20 of the 2,000 images are copies of random
train images; of parts 100. A leak is found where `images.copies` or `images.patches` has p < .01 after Holm. Images
that PneumoniaMNIST holds twice, under different numbers, are left out beforehand: they are no false alarms.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from tables import HERE, Row, machine, markdown, record
from torch import Tensor

from synthgen.findings import Estimate
from synthgen.image_features import STEPS, between, moved, trained_encoder
from synthgen.image_io import read_images
from synthgen.image_views import Views, thumbnails
from synthgen.privacy.copies import tested
from synthgen.privacy.image_copies import searches, window_search
from synthgen.privacy.neighbors import Neighbors
from synthgen.rng import Seed
from synthgen.stats import clopper_pearson, holm

IMAGES = HERE.parent.parent / "shared" / "data" / "images" / "pneumoniamnist.npz"
POOL, TRAIN, MADE, COPIES, PARTS = 3_000, 2_000, 2_000, 20, 100
LEVEL = 0.01
HEAD = ("planted", "share of images", "found", "95 % interval", "demand")
Change = Callable[[Tensor, torch.Generator], Tensor]


def images() -> Tensor:
    """All images once, as the audit sees them, in random order. Shape: -> (images, 1, 32, 32)."""
    parts = [read_images(IMAGES, part=part) for part in ("train", "val", "test")]
    arrays = np.stack([one.read(i) for one in parts for i in range(len(one))]).astype(np.float32)
    small = thumbnails(torch.from_numpy(arrays)[:, None] / 127.5 - 1)
    flat = small.flatten(1) - small.flatten(1).mean(1, keepdim=True)
    flat = flat / flat.norm(dim=1, keepdim=True)
    likeness = (flat @ flat.T).fill_diagonal_(0)
    kept = torch.triu(likeness > 0.995).sum(0) == 0
    small = small[kept]
    return small[torch.randperm(len(small), generator=Seed(0).child("order").torch())]


def leaks() -> dict[str, tuple[Change, str]]:
    def one(x: Tensor, low: float, high: float, g: torch.Generator) -> Tensor:
        return between(low, high, (len(x), 1, 1, 1), g)

    def geometric(x: Tensor, g: torch.Generator) -> Tensor:
        n = len(x)
        shift = between(-0.12, 0.12, (n, 2), g)
        return moved(x, between(-8, 8, (n,), g), shift, between(0.92, 1.08, (n,), g))

    return {
        "exact": (lambda x, _: x, ">= 99 %"),
        "gamma .6 to 1.6": (lambda x, g: ((x + 1) / 2).clamp(0, 1) ** one(x, 0.6, 1.6, g) * 2 - 1, ">= 99 %"),
        "contrast and brightness": (lambda x, g: x * one(x, 0.6, 1, g) + one(x, -0.2, 0.2, g), ">= 99 %"),
        "noise of 2 % of the range": (lambda x, g: x + 0.04 * torch.randn(x.shape, generator=g), ">= 99 %"),
        "mirrored": (lambda x, _: x.flip(3), ">= 99 %"),
        "turned by a right angle": (lambda x, _: x.rot90(1, (2, 3)), ">= 99 %"),
        "inverted": (lambda x, _: -x, ">= 99 %"),
        "shift 2 px, turn 8 degrees, scale 8 %": (geometric, ">= 95 %"),
    }


class Searches:
    """Neighbours in the pool, whoever of it is in train."""

    def __init__(self, pool: Tensor) -> None:
        everybody = np.arange(len(pool))
        seen = Views(pool[:TRAIN], pool[TRAIN:], pool[:0], everybody[:TRAIN], everybody[TRAIN:])
        encoder = trained_encoder(seen, seed=Seed(0).child("encoder"), steps=STEPS)
        self.spaces = searches(encoder.embed, seen)
        self.windows = window_search(seen)

    def __call__(self, queries: Tensor) -> list[Neighbors]:
        return [*(look(queries) for look in self.spaces), self.windows(queries)]


def joined(parts: list[list[Neighbors]], labels: np.ndarray) -> list[Neighbors]:
    names = ("nearest", "first", "second")
    return [
        replace(
            kind[0], **{name: np.concatenate([getattr(one, name) for one in kind]) for name in names}, is_train=labels
        )
        for kind in zip(*parts, strict=True)
    ]


def some(found: list[Neighbors], rows: np.ndarray) -> list[Neighbors]:
    names = ("nearest", "first", "second")
    return [replace(one, **{name: getattr(one, name)[rows] for name in names}) for one in found]


def is_found(found: list[Neighbors], seed: Seed) -> bool:
    copies, parts = tested(found[:-1], seed, 0.001).p_more, tested(found[-1:], seed, 0.001).p_more
    return bool(min(holm([copies, parts])) < LEVEL)


def run(pool: Tensor, fresh: list[Neighbors], looks: Searches, seed: Seed, change: Change | None, part: bool) -> bool:
    rng, generator = seed.child("run").numpy(), seed.child("change").torch()
    order = rng.permutation(POOL)
    labels = np.zeros(POOL, dtype=bool)
    labels[order[:TRAIN]] = True
    planted = (PARTS if part else COPIES) if change else 0
    rest = some(fresh, rng.choice(len(fresh[0].nearest), MADE - planted, replace=False))
    if change is None:
        return is_found(joined([rest], labels), seed)
    sources = pool[order[:planted]]
    return is_found(joined([rest, looks(change(sources, generator))], labels), seed)


def pasted(hosts: Tensor) -> Change:
    """Half the side of each source, at its place in some other real image."""

    def change(sources: Tensor, generator: torch.Generator) -> Tensor:
        into = hosts[torch.randint(len(hosts), (len(sources),), generator=generator)].clone()
        for i in range(len(sources)):
            row, column = torch.randint(0, 17, (2,), generator=generator).tolist()
            into[i, :, row : row + 16, column : column + 16] = sources[i, :, row : row + 16, column : column + 16]
        return into

    return change


def row(name: str, share: float, found: list[bool], demand: str) -> Row:
    rate: Estimate = clopper_pearson(sum(found), len(found))
    made = (name, f"{share:.0%}", f"{sum(found)} of {len(found)}", f"{rate.low:.3f} to {rate.high:.3f}", demand)
    print(" | ".join(made), flush=True)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--nulls", type=int, default=200)
    parser.add_argument("--record", action="store_true", help="write the table into RESULTS.md")
    arguments = parser.parse_args()
    started, everything = time.perf_counter(), images()
    pool, others = everything[:POOL], everything[POOL:]
    looks = Searches(pool)
    fresh = looks(others)
    seconds = time.perf_counter() - started
    print(f"{len(everything):,} images, {len(others):,} outside the pool; prepared in {seconds:.0f} s", flush=True)
    rows = []
    nulls = [run(pool, fresh, looks, Seed(i), None, False) for i in range(arguments.nulls)]
    rows.append(row("nothing (false alarms)", 0, nulls, "<= 5 of 200"))
    for name, (change, demand) in leaks().items():
        found = [run(pool, fresh, looks, Seed(1_000 + i), change, False) for i in range(arguments.runs)]
        rows.append(row(name, COPIES / MADE, found, demand))
    found = [run(pool, fresh, looks, Seed(1_000 + i), pasted(others), True) for i in range(arguments.runs)]
    rows.append(row("a quarter of the image pasted", PARTS / MADE, found, ">= 80 %"))
    about = f"{time.perf_counter() - started:.0f} s in all. {machine()}"
    print(f"{about}\n\n{markdown(rows, HEAD)}")
    if arguments.record:
        record("Planted leaks, images", f"{about}\n\n{markdown(rows, HEAD)}")


if __name__ == "__main__":
    main()
