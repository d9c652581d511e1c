"""Where the lungs lie, and training and validation that do not go by what lies beside them."""
