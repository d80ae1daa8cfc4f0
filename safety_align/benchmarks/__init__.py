"""What `launch.benchmark` measures, on random parameters."""
