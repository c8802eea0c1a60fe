"""Symmetry and atoms."""
