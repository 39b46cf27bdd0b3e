"""Segments, rings and status pages: memory that processes share."""
