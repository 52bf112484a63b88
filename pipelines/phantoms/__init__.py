"""Digital phantoms: anatomy drawn from published measurements, seen through the signal equations of real sequences.

`spine` is the door; `tissues` holds the measured values, `sequences` the physics, `anatomy` who the virtual patient is,
`painting` which tissue lies where, `acquisition` what a scanner makes of it. numpy only.
"""
