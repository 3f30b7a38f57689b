"""Oumi's own classes: configs, registry, schema, and the clouds it drives alone."""
