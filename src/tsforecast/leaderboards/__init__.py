"""Runs compared: which can be, who leads, whether the lead is more than chance."""
