"""Residual covariance R as algebra: it knows no text and no frame."""
