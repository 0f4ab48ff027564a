"""The schema, one file for each version, in order."""
