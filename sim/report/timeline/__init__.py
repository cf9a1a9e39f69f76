"""The pipeline timeline: which spans are drawn, where, in which colours."""
