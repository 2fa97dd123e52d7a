"""Other ways into the server than gRPC: they lead into the same sessions, and nobody who plays waits for them."""
