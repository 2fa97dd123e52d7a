"""The outside world: gRPC servicer, health, reflection."""
