"""How good is each generator of images, beside real images and on one machine? Prints a table.

    python benchmarks/images.py --seconds 300 --seeds 1 --record

PneumoniaMNIST's train part, at 32 x 32, split by image into train (70 %) and holdout; its test part is used for AUROC
alone. All figures are measured against the holdout, and the row "train" puts train in the place of the synthetic
images: the floor of sampling noise. "train copies" are train images with a little noise, which every figure but the
last must like and every audit must refuse.

FD = Frechet distance in the 64 features of a small CNN that was trained on train's labels: |m1 - m2|^2 + tr(C1 + C2 -
2 (C1 C2)^(1/2)). Detection = AUC of such a CNN that tells synthetic from holdout, 3-fold; .5 is ideal. AUROC = that of
such a CNN trained on the images, on the test part. Nearest = mean Euclidean distance to the nearest train image, pixels
from -1 to 1, and beside it that of the holdout. Audit = what the privacy checks of the policy research-share decide
about as many images as the holdout has, and which of them failed or saw too little. --sheet FOLDER writes some images
of each generator whose audit says RELEASE.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from tables import HERE, Row, machine, markdown, record
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from synthgen import registry
from synthgen.evidence import gathered
from synthgen.image_codec import resized_to
from synthgen.image_io import read_images
from synthgen.image_sheet import png, sheet
from synthgen.images import ImageData
from synthgen.policy import decide, judge_all, load_policy
from synthgen.rng import Seed

IMAGES = HERE.parent.parent / "shared" / "data" / "images" / "pneumoniamnist.npz"
SIZE = 32
HEAD = ("images", "seed", "FD", "detection AUC", "AUROC", "nearest", "fit s", "images/s", "steps", "audit")


class Cnn(nn.Module):
    """Three convolutions and a mean. Shape: (batch, 1, 32, 32) -> (batch,)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for into, out, pooled in ((1, 16, True), (16, 32, True), (32, 64, False)):
            layers += [nn.Conv2d(into, out, 3, padding=1), nn.ReLU(), *([nn.MaxPool2d(2)] if pooled else [])]
        self.body, self.head = nn.Sequential(*layers), nn.Linear(64, 1)

    def features(self, images: Tensor) -> Tensor:
        return self.body(images).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))[:, 0]


def trained(images: Tensor, labels: Tensor, *, steps: int = 600) -> Cnn:
    torch.manual_seed(0)
    network = Cnn()
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    for _ in range(steps):
        rows = torch.randint(len(images), (64,))
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(network(images[rows]), labels[rows].float()).backward()
        optimizer.step()
    return network.eval()


def pixels(images: ImageData) -> tuple[Tensor, Tensor]:
    """From -1 to 1, and labels. Shape: -> (images, 1, 32, 32), (images,)."""
    arrays = torch.stack([torch.from_numpy(images.read(i).astype("float32")) for i in range(len(images))])
    labels = torch.from_numpy(images.records.table["label"].astype(int).to_numpy())
    return resized_to(arrays[:, None], (SIZE, SIZE)) / 127.5 - 1, labels


class Judge:
    """What is the same for every row."""

    def __init__(self, train: ImageData, holdout: ImageData) -> None:
        self.sets, self.encoder = (train, holdout), {}
        self.train, self.labels = pixels(train)
        self.holdout, _ = pixels(holdout)
        self.test, self.test_labels = pixels(read_images(IMAGES, part="test"))
        self.cnn = trained(self.train, self.labels)
        self.nearest = nearest(self.holdout, self.train)

    def row(
        self, name: str, seed: str, images: Tensor, labels: Tensor, costs: tuple[str, ...], decision: str = "-"
    ) -> Row:
        fd = frechet(self._features(images), self._features(self.holdout))
        utility = roc_auc_score(self.test_labels, scores(trained(images, labels), self.test))
        near = "-" if images is self.train else f"{nearest(images, self.train):.2f} ({self.nearest:.2f})"
        row = (
            name,
            seed,
            f"{fd:.3f}",
            f"{detection(images, self.holdout):.3f}",
            f"{utility:.3f}",
            near,
            *costs,
            decision,
        )
        print(" | ".join(row), flush=True)
        return row

    def audit(self, made: ImageData) -> str:
        """The decision, and what stood in the way."""
        evidence = gathered(*self.sets, made)
        evidence.shared.update(self.encoder)  # it is blind to what is synthetic, so one does for all
        policy = load_policy("research-share").about("image")
        policy = replace(policy, checks={name: t for name, t in policy.checks.items() if name.startswith("images.")})
        measured, questions = [], {}
        for name in policy.checks:
            check = registry.create("checks", name)
            measured.append(check.run(evidence, seed=Seed(0).child(name)))
            questions[name] = check.question
        self.encoder = {"image encoder": evidence.shared["image encoder"]}
        findings = judge_all(measured, policy, questions)
        for finding in findings:
            print(f"  {finding.check} {finding.verdict}: {finding.because}", flush=True)
        open_ = [f"{f.check.split('.')[1]} {f.verdict}" for f in findings if f.verdict != "PASS"]
        return ": ".join([decide(findings, policy).outcome, *([", ".join(open_)] if open_ else [])])

    def _features(self, images: Tensor) -> np.ndarray:
        with torch.no_grad():
            return self.cnn.features(images).double().numpy()


def scores(network: Cnn, images: Tensor) -> np.ndarray:
    with torch.no_grad():
        return network(images).numpy()


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    first, second = np.cov(a.T), np.cov(b.T)
    values, vectors = np.linalg.eigh(first)
    root = vectors @ np.diag(np.sqrt(values.clip(0))) @ vectors.T
    both = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + first.trace() + second.trace() - 2 * both)


def detection(images: Tensor, real: Tensor) -> float:
    count = min(len(images), len(real))
    both = torch.cat([real[:count], images[:count]])
    labels = torch.cat([torch.zeros(count), torch.ones(count)])
    found = np.zeros(2 * count)
    for rows, rest in StratifiedKFold(3, shuffle=True, random_state=0).split(both, labels):
        found[rest] = scores(trained(both[rows], labels[rows]), both[rest])
    return float(roc_auc_score(labels, found))


def nearest(images: Tensor, train: Tensor) -> float:
    return float(torch.cdist(images.flatten(1), train.flatten(1)).min(1).values.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0, help="training budget of networks")
    parser.add_argument("--generators", default="image-pca,image-diffusion")
    parser.add_argument("--seeds", default="1", help="comma-separated")
    parser.add_argument("--sheet", type=Path, help="folder for some images of each generator that may be released")
    parser.add_argument("--record", action="store_true", help="write the table into RESULTS.md")
    arguments = parser.parse_args()
    whole = read_images(IMAGES, target="label")
    train, holdout = whole.split_by_patient(holdout=0.3, seed=7)
    judge = Judge(train, holdout)
    rows = [judge.row("train (floor)", "-", judge.train, judge.labels, ("-", "-", "-"))]
    noise = 0.01 * torch.randn(judge.train.shape, generator=torch.Generator().manual_seed(0))
    copies = judge.train + noise
    stored = ((copies[:, 0] + 1) * 127.5).round().clamp(0, 255).byte().numpy()
    refused = judge.audit(ImageData.of_arrays(stored, {"label": [*map(str, judge.labels.tolist())]}))
    rows.append(judge.row("train copies", "-", copies, judge.labels, ("-", "-", "-"), refused))
    for seed in arguments.seeds.split(","):
        for name in arguments.generators.split(","):
            budget = {"max_seconds": arguments.seconds} if name != "image-pca" else {}
            started = time.perf_counter()
            generator = registry.create("generators", name, {"size": SIZE, **budget}).fit(train, seed=int(seed))
            fitted = time.perf_counter()
            made = generator.sample(len(holdout), seed=Seed(int(seed)).child("sample"))
            speed = len(holdout) / (time.perf_counter() - fitted)
            facts = getattr(generator, "facts", {})
            steps = f"{facts['best_step']} of {facts['planned_steps']}" if facts else "-"
            decision = judge.audit(made)
            if arguments.sheet and decision == "RELEASE":
                shown = [made.read(i).astype(np.uint8) for i in range(32)]
                (arguments.sheet / f"{name}-{seed}.png").write_bytes(png(sheet(shown, across=8)))
            costs = (f"{fitted - started:.0f}", f"{speed:.0f}", steps)
            rows.append(judge.row(name, seed, *pixels(made), costs, decision))
    about = f"train {len(train):,} images, holdout {len(holdout):,}; {arguments.seconds:.0f} s. {machine()}"
    print(f"{about}\n\n{markdown(rows, HEAD)}")
    if arguments.record:
        record("Images, PneumoniaMNIST", f"{about}\n\n{markdown(rows, HEAD)}")


if __name__ == "__main__":
    main()
