"""Which version is pointed at: gates, the comparison that they judge, the decision and its record."""
