"""Covariance structures: how the coefficients of one level covary, Sigma(theta)."""
