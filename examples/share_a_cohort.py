"""Share a cohort: fit, sample, audit, and release only if the policy is met.

Run it:  python examples/share_a_cohort.py [OUTPUT_FOLDER] [TRAINING_STEPS]
"""

import sys
from pathlib import Path

import synthgen as sg

output = Path(sys.argv[1] if len(sys.argv) > 1 else "shared-cohort")
steps = int(sys.argv[2]) if len(sys.argv) > 2 else None

# A real trial that a dependency ships; for your own data: cohort = sg.read("patients.csv", target="died")
cohort = sg.datasets.load("actg175")
train, holdout = cohort.split_by_patient(holdout=0.3, seed=7)

generator = sg.TableDiffusion(max_seconds=45, max_steps=steps).fit(train, seed=7)
synthetic = generator.sample(len(train), seed=8)

audit = sg.audit(train=train, holdout=holdout, synthetic=synthetic, policy="research-share", seed=9)
for finding in audit.findings:
    figure = finding.measurement.statistic if finding.measurement else "-"
    print(f"{finding.verdict:13} {finding.check:28} {figure}")

try:
    folder = sg.release(audit, synthetic, output)
    print(f"released: {folder}")
except sg.ReleaseRefused as refusal:
    print(f"refused: {refusal}")
