"""Galbusera et al. 2018 (European Radiology Experimental 2:29): six image translations of the spine, repeated.

`cohort` says who the patients are and which task measures whom, `cases` scans them, `methods` translates, `reader`
answers a radiologist's questions, `study` measures everything, `report`, `tables` and `figures` write it down.
"""
