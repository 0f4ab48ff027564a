"""The in-memory adapter: a broker and a store that live in one process."""
