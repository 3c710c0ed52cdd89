"""The download stage: images from their source to one archive."""
