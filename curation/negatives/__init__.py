"""What hard negatives are made of, and the records they are kept in."""
