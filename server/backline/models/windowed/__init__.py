"""What every model shares that hears a window at a time and takes it apart: separators of all kinds, as streams."""
