"""Pictures of figures: memory, links, pairs of ranks, schedules, stress tests, validation."""
