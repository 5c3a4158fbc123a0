"""Which loop runs in this thread, and the table of loops."""
