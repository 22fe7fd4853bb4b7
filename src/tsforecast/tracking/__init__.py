"""Where runs are recorded: the only package that imports mlflow, and only once a run is opened."""
