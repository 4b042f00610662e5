"""Choosing versions: the resolvers uv and pip-tools, and the indexes that they ask."""
