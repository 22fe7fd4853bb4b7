"""tsforecast."""
