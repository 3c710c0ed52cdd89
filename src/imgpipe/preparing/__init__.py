"""From an archive of any layout to checked splits."""
