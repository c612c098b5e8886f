"""Audit a synthetic table that somebody else made: any three files will do.

Run it:  python examples/audit_another_tool.py

Here "another tool" adds a little noise to the training rows. Its averages and correlations are perfect, and every
patient can be found again: the audit refuses it.
"""

import numpy as np

import synthgen as sg

cohort = sg.datasets.load("actg175")
train, holdout = cohort.split_by_patient(holdout=0.3, seed=1)

noise = np.random.default_rng(0)
made_elsewhere = train.frame.drop(columns="pidnum")
for column in ("age", "cd40", "cd420", "cd80", "cd820", "days"):
    made_elsewhere[column] = made_elsewhere[column] + noise.integers(-1, 2, len(made_elsewhere))

audit = sg.audit(train=train, holdout=holdout, synthetic=made_elsewhere, seed=2)
print(audit.decision.outcome)
for reason in audit.decision.reasons:
    print(" -", reason)
