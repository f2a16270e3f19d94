"""Multiple sclerosis: what the tables of a registry mean."""
