"""What ``clipcurate new`` writes: Python files in which NAME and CLASS stand for the user's names, as text so that nothing runs them here."""
