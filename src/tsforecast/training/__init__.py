"""Fit, score, calibrate."""
