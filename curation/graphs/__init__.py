"""Where knowledge graphs come from: one file per format."""
