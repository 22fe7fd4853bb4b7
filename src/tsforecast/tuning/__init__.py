"""Hyperparameter search: Hydra's sweep grammar, Optuna's samplers and pruners, trials that share one storage."""
