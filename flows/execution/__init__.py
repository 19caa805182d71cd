"""Running jobs: executors, schedules, estimates, run records."""
