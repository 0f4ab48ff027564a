"""Background jobs that survive crashes, on the broker you already run."""
