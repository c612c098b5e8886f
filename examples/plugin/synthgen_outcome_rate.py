"""Is the outcome as common as in the real patients? A check of one's own, for synthgen.

pip install ./examples/plugin
synthgen describe outcome.rate
synthgen audit --policy examples/plugin/with_outcome_rate.yaml --train ... --holdout ... --synthetic ... -o audit
"""

from dataclasses import dataclass, replace

from synthgen.errors import NotAssessable
from synthgen.findings import Estimate, Measurement
from synthgen.stats import difference


@dataclass(frozen=True)
class OutcomeRate:
    """How far the share of rows with the outcome is off, for a target with two values; rows count as patients."""

    name = "outcome.rate"  # as in pyproject.toml; the part before the dot is the family
    question = "Is the outcome as common among synthetic as among real patients?"
    needs = frozenset({"train", "holdout", "synthetic", "target"})

    def run(self, evidence, *, seed):  # noqa: ARG002 - nothing here is random
        """Compare with train; the holdout in place of the synthetic table is the control."""
        target = evidence.schema.target
        train, holdout, synthetic = (
            side.table[target].dropna() for side in (evidence.train, evidence.holdout, evidence.synthetic)
        )
        if train.nunique() != 2 or min(map(len, (train, holdout, synthetic))) == 0:
            raise NotAssessable("needs a target with two values, known in all three tables")
        outcome = train.max()  # of two values, either tells the same distance
        gap, control = (_gap(values == outcome, train == outcome) for values in (synthetic, holdout))
        return Measurement(
            check=self.name,
            label="difference of the shares with the outcome",
            statistic=gap,
            control=control,
            better="lower",
            answer=f"The outcome's share is off by {gap.value:.1%}; by {control.value:.1%} among real patients.",
            source="interval: Newcombe 1998, square and add",
        )


def _gap(one, other) -> Estimate:
    """The absolute difference of two shares; an interval that holds zero starts there."""
    signed = difference(one.sum(), len(one), other.sum(), len(other))
    low, high = sorted((abs(signed.low), abs(signed.high)))
    return replace(signed, value=abs(signed.value), low=low if signed.low * signed.high > 0 else 0.0, high=high)
