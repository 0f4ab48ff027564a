"""The numbered migrations; each is SQL that takes a file from the version before to its own."""
