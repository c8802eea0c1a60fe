"""Fitting: from data to a law, with its errors."""
