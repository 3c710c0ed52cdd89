"""imgpipe: from pictures to a trained classifier that anybody can make again."""
