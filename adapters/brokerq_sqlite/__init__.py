"""The SQLite adapter: a durable broker and store in one file."""
