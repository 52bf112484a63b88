"""The six stages, one file each. A stage knows the domain, the spool and the database, and no other stage."""
