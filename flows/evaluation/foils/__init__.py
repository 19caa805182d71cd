"""Tests made of people's captions only: no generator, word list or contrast that a recipe trains with makes a text here."""
