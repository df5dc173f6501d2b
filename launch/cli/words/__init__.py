"""The command line's words made into other forms, of click's own knowledge of them: man pages, completion."""
