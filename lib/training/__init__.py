"""How the committed weights were trained."""
