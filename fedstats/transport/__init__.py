"""How parcels travel between the parties: over HTTP."""
