"""Slow, obvious loops written from the formulas, in float64: the judges of the losses."""
