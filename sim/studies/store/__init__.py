"""Finished simulations that are kept in a database, so that no study simulates a point twice.

Contents
--------
- `sim.studies.store.keys`: the key of a simulation, a digest of everything that its result depends on.
- `sim.studies.store.record`: what is kept of one simulation.
- `sim.studies.store.tables`: the tables of the database; `open_database`: opening one, and its errors in plain words.
- `sim.studies.store.owner`: who works on a store at the moment, and whether that process still runs.
- `sim.studies.store.store`: the store: results, and the points that studies have claimed.
- `sim.studies.store.export`: rows of tables, and the files that they are written to.
"""
