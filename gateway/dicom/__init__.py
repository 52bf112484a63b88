"""Data sets, not networks: headers, volumes, derived series, the loop guard."""

import pydicom.config

# What devices send is taken as it is. A warning about a value would also put that value, which may describe the
# patient, into the log.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
