"""Our layout: two stages that take in, at every step, all that is known of its own moment, and know one key."""
