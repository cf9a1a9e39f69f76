"""The best strategy for a work, with a certificate: branch and bound over a space of strategies.

Contents
--------
- `sim.studies.search.space`: every legal strategy.
- `sim.studies.search.bounds`: what each needs at least; `maps`: the algebra of these bounds.
- `sim.studies.search.branch`: which are simulated, in which order, and when it is proven; `workers`: the
  processes that do it; `kept`: simulations in a store.
- `sim.studies.search.found`: what a search found: the best, the certificate, the Pareto front; `launch`: the flags of
  frameworks for it.
"""
