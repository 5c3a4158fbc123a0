"""Programs: starting them, their streams, their ends."""
