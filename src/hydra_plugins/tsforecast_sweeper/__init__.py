"""Hydra finds plugins in `hydra_plugins` alone; what this one does is in `tsforecast.tuning`."""
