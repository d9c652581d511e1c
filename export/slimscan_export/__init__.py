"""Export: compression, gates and bundle writing."""
