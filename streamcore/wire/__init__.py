"""What passes between processes: messages, inboxes and the arithmetic of edges."""
