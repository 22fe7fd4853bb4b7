"""Features: what training and serving both compute from a panel, with numpy and pandas alone."""
