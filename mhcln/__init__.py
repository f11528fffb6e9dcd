"""Hash codes for remote-sensing image retrieval: the MHCLN / MiLaN method of Roy, Sangineto, Demir and Sebe."""
