"""What every command needs of its process: streams that may be closed or full, signals, and faults told in one line."""
