"""imgpipe: from images to a trained classifier that anybody can make again."""
