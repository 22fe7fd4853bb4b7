"""Forecasters: naive baselines, linear maps, networks. The fitted runtimes need numpy only."""
