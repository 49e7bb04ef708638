"""Programs that print a table and write ``results/<what>_<hardware>_<date>.json``."""
