"""What does another auditor answer on three tables? Run by its own Python, since their versions exclude each other.

    PYTHON privacy_peer.py anonymeter|syntheval FOLDER

FOLDER holds train.csv, holdout.csv, synthetic.csv and about.json: the categories, the columns that an attacker knows,
and the secret. Prints one JSON object. Attacks and settings are each tool's own defaults, but for their number.
"""

# ruff: noqa: NPY002 (both tools take their randomness from the global generator)
from __future__ import annotations

import json
import random
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

ATTACKS, SEED = 300, 1


def anonymeter(train: pd.DataFrame, synthetic: pd.DataFrame, holdout: pd.DataFrame, about: dict) -> dict:
    """Each risk with its interval; the holdout is the control."""
    from anonymeter.evaluators import InferenceEvaluator, LinkabilityEvaluator, SinglingOutEvaluator

    known, secret = about["known"], about["secret"]
    attacks = min(ATTACKS, len(train), len(holdout))
    sets = {"ori": train, "syn": synthetic, "control": holdout, "n_attacks": attacks}
    half = len(known) // 2
    evaluators = {
        "singling out": SinglingOutEvaluator(**sets),
        "linkability": LinkabilityEvaluator(**sets, aux_cols=(known[:half], known[half:])),
        "inference": InferenceEvaluator(
            **sets, aux_cols=known, secret=secret, regression=secret not in about["categories"]
        ),
    }
    found = {}
    for name, evaluator in evaluators.items():
        options = {"mode": "multivariate"} if name == "singling out" else {}
        try:
            evaluator.evaluate(**options)
            risk = evaluator.risk(confidence_level=0.95)
            found[name] = [float(risk.value), float(risk.ci[0]), float(risk.ci[1])]
        except (RuntimeError, ValueError, TypeError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            found[name] = None
    return found


def syntheval(train: pd.DataFrame, synthetic: pd.DataFrame, holdout: pd.DataFrame, about: dict) -> dict:
    """The figures of its preset `privacy` that compare train with the holdout; it wants missing cells filled."""
    from syntheval import SynthEval

    filled = {name: "missing" if name in about["categories"] else train[name].median() for name in train}
    train, synthetic, holdout = (data.fillna(filled) for data in (train, synthetic, holdout))
    tool = SynthEval(train, holdout_dataframe=holdout, cat_cols=about["categories"], verbose=False)
    table = tool.evaluate(synthetic, None, nnaa={"n_resample": 30}, eps_risk={}, mia={"num_eval_iter": 5})
    return {str(row["metric"]): float(row["val"]) for _, row in table.reset_index().iterrows()}


def main() -> None:
    warnings.simplefilter("ignore")
    random.seed(SEED)
    np.random.seed(SEED)
    tool, folder = sys.argv[1], Path(sys.argv[2])
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    read = {name: pd.read_csv(folder / f"{name}.csv") for name in ("train", "synthetic", "holdout")}
    print(json.dumps({"anonymeter": anonymeter, "syntheval": syntheval}[tool](**read, about=about)))


if __name__ == "__main__":
    main()
