"""What every other module may use: errors, the environment, descriptors, the front of logging."""
