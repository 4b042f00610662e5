"""All locks of a repository: locking every flow at once, and the report on versions that differ."""
