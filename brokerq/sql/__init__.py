"""What adapters on SQL databases share: rules and small mechanisms, and no database library."""
