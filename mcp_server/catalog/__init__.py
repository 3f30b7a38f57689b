"""The catalogue: recipes of our own and Oumi's, parsed, searched and fetched. Imports no Oumi."""
