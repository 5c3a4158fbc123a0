"""Events that are neither I/O nor timers: signals, children, idle time."""
