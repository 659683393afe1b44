"""Draws of exactly so many records: controlled rounding of cells, and samples with given inclusion
probabilities.

``candidates.py`` first phase and container; ``cube.py`` balanced draws; ``systematic.py`` draws
along a sorted list; ``sampford.py`` draws of high entropy; ``rounding.py`` counts of cells. Random
numbers of the draws come from (seed, area number, which draw), so that an area comes out the same
alone and among others, and one seed serves every phase.

Belongs here: whole counts and draws from probabilities. Does not belong here: how many an area gets
(``allocation.py``), refitting.
"""
