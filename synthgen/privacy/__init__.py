"""Checks that attack the synthetic data as an adversary would."""
