"""Do synthetic images help a classifier that has few real ones? Perhaps: an interval says what was seen.

    python examples/augment_imaging.py [SECONDS]

A phantom cohort stands for yours. Findings are rare in it; each gets as many synthetic images as the others.
"""

import sys

from synthgen.evidence import gathered
from synthgen.generators.image_diffusion import ImageDiffusion
from synthgen.phantom import phantom
from synthgen.rng import Seed
from synthgen.validators.image_utility import ImageClassifier

seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0

# few images to learn from, and many that nobody learned from to test on
few, holdout = phantom(400, seed=1, size=32).split_by_patient(holdout=0.6, seed=2)
generator = ImageDiffusion(max_seconds=seconds).fit(few, seed=3)
synthetic = generator.sample(len(few), seed=4, balance="finding")
for name, images in (("real", few), ("synthetic", synthetic)):
    print(f"{name}: {images.records.table['finding'].value_counts().to_dict()}")

# trained on real, on synthetic, on both, and on synthetic then real images; tested on the holdout
found = ImageClassifier(steps=200).run(gathered(few, holdout, synthetic), seed=Seed(5))
print(found.answer)
for way in ("real and synthetic, minus real", "synthetic and then real, minus real"):
    gain = found.details[way]
    verdict = "helps" if gain.low > 0 else "harms" if gain.high < 0 else "no difference shown"
    print(f"{way}: {gain} AUC, {verdict}")
