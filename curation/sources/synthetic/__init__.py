"""The generated world of the source `scenes`: layout, drawing, captions, and an oracle for their truth."""
