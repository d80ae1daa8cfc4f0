"""What `launch.benchmark` measures."""
