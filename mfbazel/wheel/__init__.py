"""Wheels, one external repository per sha256: fetching them with the user's pip configuration."""
