"""How to start c2al on a cluster: recipes that run ``python -m c2al`` and import none of it."""
