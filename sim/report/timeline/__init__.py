"""The pipeline timeline: which spans are drawn, where, in which colours.

Contents
--------
- `sim.report.timeline.picture`: the picture.
- `sim.report.timeline.runs`: several runs on one axis, a line for each stage.
- `sim.report.timeline.spent`: the strip of how each moment is spent.
- `sim.report.timeline.bars`: which spans are shown; `bands`: where each stage lies; `legend`: what the colours mean.
"""
