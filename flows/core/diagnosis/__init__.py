"""The diagnosis of a training: what is wrong with it, by rules over what it recorded."""
