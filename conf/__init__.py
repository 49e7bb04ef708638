"""The configs, as Hydra finds them: installed as the package ``c2al.conf``, searched as ``pkg://c2al.conf``."""
