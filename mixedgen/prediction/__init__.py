"""Predicted effects, new rows, trajectories and simulation."""
