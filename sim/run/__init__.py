"""One scenario becomes one result: build, limits, plan, engine, results."""
