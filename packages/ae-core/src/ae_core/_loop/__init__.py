"""One thread's loop: its state, timers, I/O interests, watchers and how it blocks."""
