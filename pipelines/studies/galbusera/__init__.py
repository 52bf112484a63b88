"""Galbusera et al. 2018 (European Radiology Experimental 2:29): six image translations of the spine, repeated.

`cohort` says who the patients are and which task measures whom, `cases` scans them, `methods` translates, `reader` reads
the images as a radiologist would, `study` measures everything, `report` and `figures` write it down.
"""
