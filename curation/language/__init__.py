"""Words and sentences: what stages that read or write text share."""
