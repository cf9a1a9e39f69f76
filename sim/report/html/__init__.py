"""One HTML file that explains a run to somebody who has only that file.

Contents
--------
- `sim.report.html.page`: the page of a run; `sim.report.html.stress`: the page of a stress test.
- `sim.report.html.compare`: runs next to each other, as a page and as a section of the page of a run.
- `sim.report.html.shell`: the file around the sections, its policy and its script.
- `sim.report.html.sections`: what the sections say, from the JSON object of a run.
- `sim.report.html.claims`: the conclusion, and the facts that the claims state.
- `sim.report.html.evidence`: links from a claim to what decided it.
- `sim.report.html.spans`: the spans of a trace, in the order in which a browser draws them.
- `sim.report.html.pictures`: curves, heat map and legend.
- `sim.report.html.cluster`: the picture of the cluster, and shapes of what kernels work on.
- `sim.report.html.colours`: colours on light and dark pages.
- `sim.report.html.columns`: columns of numbers as text.
- `sim.report.html.details`: what the page needs beyond the JSON object, and the arrays in which it is saved.
- `templates`, `scripts`, `report.css`: the page's own languages, in files of their own.
"""
