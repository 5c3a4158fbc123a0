"""What a handle reads and writes: sockets, descriptors, other handles; and how it is closed."""
