"""What plugin authors subclass, and the host loop that runs one node in its own process."""
