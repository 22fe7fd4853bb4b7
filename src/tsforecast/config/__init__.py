"""Composition, and what a mistake in it is told: with the commands the only room that knows hydra."""
