"""Where series come from: files, the catalogue, splits."""
