"""Where series come from: files and databases, panels, splits."""
