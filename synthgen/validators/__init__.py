"""Checks that ask whether the synthetic data are faithful and useful."""
