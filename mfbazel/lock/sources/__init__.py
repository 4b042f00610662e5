"""Wheels that no index has: built from sdists and commits, checked in, or made by targets of the workspace."""
