"""Estimation of the variances: likelihood, ascent, moments, certificate."""
