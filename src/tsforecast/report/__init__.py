"""What a run and a forecast look like: the only package that imports matplotlib, and only once something is drawn."""
