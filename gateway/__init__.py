"""The service: a DICOM node that receives, routes, processes and delivers. Start reading at ``flow.py``."""
