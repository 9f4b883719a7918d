"""Degrees of freedom, tests, hypotheses and means of the fixed effects."""
