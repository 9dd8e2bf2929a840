"""Trials: models x images x conditions, kept as a row each."""
