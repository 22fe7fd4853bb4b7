"""What a run looks like: the only package that imports matplotlib and plotly, and only once something is drawn."""
