"""Cross-validation of experiments over time; as `tsforecast.experiment`, it knows no hydra, no mlflow and no plots."""
