"""Complete a cohort's missing cells with their uncertainty, and sample rows in the proportions you need.

Run it:  python examples/impute_and_balance.py [TRAINING_STEPS]
"""

import sys

import numpy as np

import synthgen as sg

steps = int(sys.argv[1]) if len(sys.argv) > 1 else None

# A trial of 2,139 HIV patients; a third of the CD4 counts after 96 weeks (cd496) is missing
cohort = sg.datasets.load("actg175")
generator = sg.TableDiffusion(max_seconds=45, max_steps=steps).fit(cohort, seed=7)

# Multiple imputation: analyse each completed frame, then pool by Rubin's rules
frame = cohort.frame
completed = generator.impute(frame, seed=8, columns=["cd496"], draws=5)
means = np.array([whole["cd496"].mean() for whole in completed])
within = np.mean([whole["cd496"].var() / len(whole) for whole in completed])
error = np.sqrt(within + (1 + 1 / len(means)) * means.var(ddof=1))
print(f"missing: {frame['cd496'].isna().sum()}, after imputation: {completed[0]['cd496'].isna().sum()}")
print(f"mean cd496: {frame['cd496'].mean():.0f} where known, {means.mean():.0f} +- {error:.0f} of all (5 draws)")

# As many rows with the event as without, for training a model; exact, and without rejection
topped = generator.sample(1_000, seed=9, balance="cens")
print("equal shares:", topped.table["cens"].value_counts().to_dict())

# Other shares, in one arm, of a given age for each row
ages = cohort.table[["age"]].query("20 <= age <= 60").head(200)
shaped = generator.sample(200, seed=10, where={"arms": 1}, given=ages, balance={"cens": {0: 0.75, 1: 0.25}})
print("chosen shares:", shaped.table["cens"].value_counts().to_dict())
