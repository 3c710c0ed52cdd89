"""The pack stage: image files to packed splits."""
