"""What single picture formats need besides Pillow; loaded only when such a picture comes."""
