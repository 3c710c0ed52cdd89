"""The prepare stage: from an archive of any layout to checked splits."""
