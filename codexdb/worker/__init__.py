"""What time does: turns are claimed, worked, ended; dead workers' turns are found and closed."""
