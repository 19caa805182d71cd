"""What selection ranks and weighs by."""
