"""A scenario becomes domain values, made once: cluster, model, mesh, work. Nothing here knows a clock or a plan."""
