"""Actors, supervisors, and the plan of the tree."""
